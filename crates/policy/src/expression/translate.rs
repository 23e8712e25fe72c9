//! From the syntax tree of the `cel` crate to [`Node`]. What is not supported is refused here, by name.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, SelectExpr, operators};
use cel::parser::{Expression as Tree, Parser};
use regex::RegexBuilder;

use super::node::{Collect, FUNCTIONS, Fold, Function, Input, Node, Operator};
use super::value;
use super::{MAX_DEPTH, MAX_LOOPS};

/// The largest compiled pattern of `matches`, in bytes.
const PATTERN_SIZE: usize = 256 * 1024;

/// Parses and translates a text.
pub(crate) fn read(source: &str) -> Result<Node, String> {
    let tree = Parser::default()
        .parse(source)
        .map_err(|errors| first_line(&errors.to_string()))?;
    Translator::default().node(&tree)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or("it is no CEL expression");
    line.trim_start_matches("ERROR: ").to_owned()
}

/// Where in the tree the translation is.
#[derive(Default)]
struct Translator {
    depth: usize,
    loops: usize,
    /// The variables of the loops around, outermost first.
    scope: Vec<String>,
}

impl Translator {
    fn node(&mut self, tree: &Tree) -> Result<Node, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("it nests deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let node = self.node_here(tree);
        self.depth -= 1;
        node
    }

    fn boxed(&mut self, tree: &Tree) -> Result<Box<Node>, String> {
        self.node(tree).map(Box::new)
    }

    fn nodes(&mut self, trees: &[Tree]) -> Result<Vec<Node>, String> {
        trees.iter().map(|tree| self.node(tree)).collect()
    }

    fn node_here(&mut self, tree: &Tree) -> Result<Node, String> {
        match &tree.expr {
            Expr::Literal(literal) => self::literal(literal),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => self.list(list),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(_) | Expr::Struct(_) => Err("maps and messages cannot be built".into()),
            Expr::Unspecified => Err("it is empty".into()),
        }
    }

    fn variable(&self, name: &str) -> Result<Node, String> {
        if let Some(place) = self.scope.iter().rposition(|known| known == name) {
            return Ok(Node::Local(place));
        }
        Ok(Node::Input(match name {
            "statement" => Input::Statement,
            "predicate" => Input::Predicate,
            "signer" => Input::Signer,
            "image" => Input::Image,
            _ => {
                return Err(format!(
                    "there is no variable {name}; known are statement, predicate, signer and image"
                ));
            }
        }))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Node, String> {
        let of = self.boxed(&select.operand)?;
        let field = select.field.as_str().into();
        Ok(if select.test {
            Node::Has { of, field }
        } else {
            Node::Select { of, field }
        })
    }

    fn list(&mut self, list: &ListExpr) -> Result<Node, String> {
        if !list.optional_indices.is_empty() {
            return Err("optional elements are not supported".into());
        }
        self.nodes(&list.elements).map(Node::List)
    }

    fn call(&mut self, call: &CallExpr) -> Result<Node, String> {
        if let Some(target) = &call.target {
            return self.function(&call.func_name, Some(target), &call.args);
        }
        match call.args.as_slice() {
            [operand] => self.unary(&call.func_name, operand),
            [left, right] => self.binary(&call.func_name, left, right),
            [condition, then, otherwise] if call.func_name == operators::CONDITIONAL => Ok(Node::If {
                condition: self.boxed(condition)?,
                then: self.boxed(then)?,
                otherwise: self.boxed(otherwise)?,
            }),
            arguments => self.function(&call.func_name, None, arguments),
        }
    }

    fn unary(&mut self, name: &str, operand: &Tree) -> Result<Node, String> {
        match name {
            operators::LOGICAL_NOT => self.boxed(operand).map(Node::Not),
            operators::NEGATE => self.boxed(operand).map(Node::Negate),
            operators::NOT_STRICTLY_FALSE => self.boxed(operand).map(Node::NotStrictlyFalse),
            _ => self.function(name, None, std::slice::from_ref(operand)),
        }
    }

    fn binary(&mut self, name: &str, left: &Tree, right: &Tree) -> Result<Node, String> {
        match name {
            operators::LOGICAL_AND => Ok(Node::And(self.boxed(left)?, self.boxed(right)?)),
            operators::LOGICAL_OR => Ok(Node::Or(self.boxed(left)?, self.boxed(right)?)),
            operators::INDEX => Ok(Node::Index {
                of: self.boxed(left)?,
                at: self.boxed(right)?,
            }),
            _ => match operator(name) {
                Some(operator) => Ok(Node::Binary(operator, self.boxed(left)?, self.boxed(right)?)),
                None => self.function(name, None, &[left.clone(), right.clone()]),
            },
        }
    }

    fn function(&mut self, name: &str, target: Option<&Tree>, arguments: &[Tree]) -> Result<Node, String> {
        let mut all = Vec::with_capacity(arguments.len() + 1);
        all.extend(target);
        all.extend(arguments);
        if name == "matches" {
            return self.matches(&all);
        }
        let Some(function) = Function::find(name, all.len()) else {
            return Err(format!(
                "there is no function {name} of {} arguments; known are {FUNCTIONS}",
                all.len()
            ));
        };
        let mut arguments = Vec::with_capacity(all.len());
        for argument in all {
            arguments.push(self.node(argument)?);
        }
        constant(function, &arguments).map(|known| known.unwrap_or(Node::Call(function, arguments)))
    }

    /// The pattern must be a literal: it is compiled once, and a text from outside is never a pattern.
    fn matches(&mut self, arguments: &[&Tree]) -> Result<Node, String> {
        let [text, pattern] = arguments else {
            return Err("matches takes a text and a pattern".into());
        };
        let Node::Text(pattern) = self.node(pattern)? else {
            return Err("the pattern of matches must be written out as a string".into());
        };
        let compiled = RegexBuilder::new(&pattern)
            .size_limit(PATTERN_SIZE)
            .build()
            .map_err(|error| format!("the pattern {pattern:?} of matches cannot be used: {error}"))?;
        Ok(Node::Matches {
            text: self.boxed(text)?,
            pattern: compiled,
        })
    }

    /// The range and the start are outside the loop; the rest sees its two variables.
    fn comprehension(&mut self, tree: &ComprehensionExpr) -> Result<Node, String> {
        if tree.iter_var2.is_some() {
            return Err("loops with two variables are not supported".into());
        }
        if self.loops == MAX_LOOPS {
            return Err(format!("its loops nest deeper than {MAX_LOOPS} levels"));
        }
        let range = self.node(&tree.iter_range)?;
        let collected = collected(tree);
        let start = match collected {
            Some(_) => None,
            None => Some(self.node(&tree.accu_init)?),
        };
        self.loops += 1;
        self.scope.push(tree.iter_var.clone());
        self.scope.push(tree.accu_var.clone());
        let node = match (collected, start) {
            (Some((when, item)), _) => self.collect(range, when, item),
            (None, start) => self.fold(range, start.unwrap_or(Node::Null), tree),
        };
        self.scope.truncate(self.scope.len().saturating_sub(2));
        self.loops -= 1;
        node
    }

    fn collect(&mut self, range: Node, when: Option<&Tree>, item: &Tree) -> Result<Node, String> {
        let when = when.map(|when| self.node(when)).transpose()?;
        let item = self.node(item)?;
        Ok(Node::Collect(Box::new(Collect { range, when, item })))
    }

    fn fold(&mut self, range: Node, start: Node, tree: &ComprehensionExpr) -> Result<Node, String> {
        Ok(Node::Fold(Box::new(Fold {
            range,
            start,
            proceed: self.node(&tree.loop_cond)?,
            step: self.node(&tree.loop_step)?,
            result: self.node(&tree.result)?,
        })))
    }
}

fn literal(literal: &LiteralValue) -> Result<Node, String> {
    Ok(match literal {
        LiteralValue::Null => Node::Null,
        LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
        LiteralValue::Int(value) => Node::Int(*value.inner()),
        LiteralValue::Double(value) => Node::Double(*value.inner()),
        LiteralValue::String(value) => Node::Text(value.inner().into()),
        LiteralValue::UInt(_) => return Err("unsigned numbers are not supported: leave the u out".into()),
        LiteralValue::Bytes(_) => return Err("bytes are not supported".into()),
    })
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Modulo,
        operators::EQUALS => Operator::Equal,
        operators::NOT_EQUALS => Operator::NotEqual,
        operators::LESS => Operator::Less,
        operators::LESS_EQUALS => Operator::LessOrEqual,
        operators::GREATER => Operator::Greater,
        operators::GREATER_EQUALS => Operator::GreaterOrEqual,
        operators::IN => Operator::In,
        _ => return None,
    })
}

/// Times and durations that are written out are read once, and refused at once where they cannot be.
fn constant(function: Function, arguments: &[Node]) -> Result<Option<Node>, String> {
    match (function, arguments) {
        (Function::ToTime, [Node::Text(text)]) => value::time(text).map(|time| Some(Node::Time(time))),
        (Function::ToSpan, [Node::Text(text)]) => value::span(text).map(|span| Some(Node::Span(span))),
        _ => Ok(None),
    }
}

/// The condition and the item of a loop that appends to a list: `map` and `filter` as the parser writes them out.
fn collected(tree: &ComprehensionExpr) -> Option<(Option<&Tree>, &Tree)> {
    let list = tree.accu_var.as_str();
    let starts_empty = matches!(&tree.accu_init.expr, Expr::List(start) if start.elements.is_empty());
    if !starts_empty || !is_variable(&tree.result, list) {
        return None;
    }
    match &tree.loop_step.expr {
        Expr::Call(call) if call.func_name == operators::CONDITIONAL => match call.args.as_slice() {
            [when, step, otherwise] if is_variable(otherwise, list) => {
                appended(step, list).map(|item| (Some(when), item))
            }
            _ => None,
        },
        _ => appended(&tree.loop_step, list).map(|item| (None, item)),
    }
}

/// The item of `list + [item]`.
fn appended<'a>(step: &'a Tree, list: &str) -> Option<&'a Tree> {
    let Expr::Call(call) = &step.expr else { return None };
    let [left, right] = call.args.as_slice() else {
        return None;
    };
    let Expr::List(added) = &right.expr else {
        return None;
    };
    let [item] = added.elements.as_slice() else {
        return None;
    };
    (call.func_name == operators::ADD && is_variable(left, list)).then_some(item)
}

fn is_variable(tree: &Tree, name: &str) -> bool {
    matches!(&tree.expr, Expr::Ident(ident) if ident == name)
}
