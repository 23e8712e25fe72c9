//! Evaluating an expression. Each step costs at least one unit of the budget, and steps over texts and lists cost by
//! their length, so that an evaluation ends after a bounded amount of work whatever the statement holds. Past the
//! budget nothing is true any more: `||` and `&&` absorb failures, as CEL has it, but never that one.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::node::{Collect, Fold, Function, Input, Node, Operator};
use super::value::{self, List, Text, Value, shown};
use super::{Evaluation, Inputs};

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    Failed(String),
    OverBudget,
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

fn failed<T>(why: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Failed(why.into()))
}

type Step<'a> = Result<Value<'a>, Trouble>;

/// One evaluation.
pub(crate) struct Machine<'a> {
    inputs: Inputs<'a>,
    /// The variables of the loops around, outermost first.
    locals: Vec<Value<'a>>,
    budget: u64,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(inputs: Inputs<'a>, budget: u64) -> Self {
        Self {
            inputs,
            locals: Vec::new(),
            budget,
        }
    }

    pub(crate) fn run(mut self, root: &'a Node) -> Evaluation {
        match self.value(root) {
            Ok(Value::Bool(true)) => Evaluation::True,
            Ok(Value::Bool(false)) => Evaluation::False,
            Ok(other) => Evaluation::Failed(format!("it is {} and not true or false", other.kind())),
            Err(Trouble::Failed(why)) => Evaluation::Failed(why),
            Err(Trouble::OverBudget) => {
                Evaluation::Failed("it takes too many steps over this attestation".into())
            }
        }
    }

    fn pay(&mut self, units: usize) -> Result<(), Trouble> {
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        match self.budget.checked_sub(units) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => {
                self.budget = 0;
                Err(Trouble::OverBudget)
            }
        }
    }

    fn value(&mut self, node: &'a Node) -> Step<'a> {
        self.pay(1)?;
        match node {
            Node::Null => Ok(Value::Null),
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Int(*value)),
            Node::Double(value) => Ok(Value::Double(*value)),
            Node::Text(text) => Ok(Value::Text(Text::Found(text))),
            Node::Time(time) => Ok(Value::Time(*time)),
            Node::Span(span) => Ok(Value::Span(*span)),
            Node::List(items) => self.list(items),
            Node::Input(input) => self.input(*input),
            Node::Local(place) => self.local(*place),
            Node::Select { of, field } => self.select(of, field),
            Node::Has { of, field } => self.has(of, field),
            Node::Index { of, at } => self.index(of, at),
            Node::Not(operand) => self.boolean(operand).map(|value| Value::Bool(!value)),
            Node::Negate(operand) => self.negated(operand),
            Node::NotStrictlyFalse(operand) => self.not_strictly_false(operand),
            Node::And(left, right) => self.either(left, right, false),
            Node::Or(left, right) => self.either(left, right, true),
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let chosen = if self.boolean(condition)? { then } else { otherwise };
                self.value(chosen)
            }
            Node::Binary(operator, left, right) => self.binary(*operator, left, right),
            Node::Call(function, arguments) => self.call(*function, arguments),
            Node::Matches { text, pattern } => {
                let text = self.text(text)?;
                self.pay(text.as_str().len() / 4)?;
                Ok(Value::Bool(pattern.is_match(text.as_str())))
            }
            Node::Fold(fold) => self.fold(fold),
            Node::Collect(collect) => self.collect(collect),
        }
    }

    fn list(&mut self, items: &'a [Node]) -> Step<'a> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(self.value(item)?);
        }
        Ok(Value::List(List::Made(values.into())))
    }

    fn input(&self, input: Input) -> Step<'a> {
        let json: &'a Json = match input {
            Input::Statement => self.inputs.statement,
            Input::Predicate => self.inputs.predicate,
            Input::Signer => self.inputs.signer,
            Input::Image => self.inputs.image,
        };
        Ok(Value::of_json(json)?)
    }

    fn local(&self, place: usize) -> Step<'a> {
        match self.locals.get(place) {
            Some(value) => Ok(value.clone()),
            None => failed("a variable of a loop has no value"),
        }
    }

    fn boolean(&mut self, node: &'a Node) -> Result<bool, Trouble> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => failed(format!("{} stands where true or false belongs", other.kind())),
        }
    }

    fn text(&mut self, node: &'a Node) -> Result<Text<'a>, Trouble> {
        match self.value(node)? {
            Value::Text(text) => Ok(text),
            other => failed(format!("{} stands where a string belongs", other.kind())),
        }
    }

    fn select(&mut self, of: &'a Node, field: &'a str) -> Step<'a> {
        match self.value(of)? {
            Value::Map(fields) => match fields.get(field) {
                Some(json) => Ok(Value::of_json(json)?),
                None => failed(format!("there is no field {field}")),
            },
            other => failed(format!("{} has no field {field}", other.kind())),
        }
    }

    fn has(&mut self, of: &'a Node, field: &'a str) -> Step<'a> {
        match self.value(of)? {
            Value::Map(fields) => Ok(Value::Bool(fields.contains_key(field))),
            other => failed(format!("{} has no fields", other.kind())),
        }
    }

    fn index(&mut self, of: &'a Node, at: &'a Node) -> Step<'a> {
        let container = self.value(of)?;
        let at = self.value(at)?;
        match (container, at) {
            (Value::List(items), Value::Int(place)) => {
                let found = usize::try_from(place).ok().and_then(|place| items.get(place));
                match found {
                    Some(item) => Ok(item?),
                    None => failed(format!("a list has no item {place}")),
                }
            }
            (Value::Map(fields), Value::Text(key)) => match fields.get(key.as_str()) {
                Some(json) => Ok(Value::of_json(json)?),
                None => failed(format!("there is no field {}", shown(key.as_str()))),
            },
            (container, at) => failed(format!("{} has no item by {}", container.kind(), at.kind())),
        }
    }

    fn negated(&mut self, operand: &'a Node) -> Step<'a> {
        match self.value(operand)? {
            Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
            Value::Double(value) => Ok(Value::Double(-value)),
            other => failed(format!("{} has no negative", other.kind())),
        }
    }

    fn not_strictly_false(&mut self, operand: &'a Node) -> Step<'a> {
        match self.value(operand) {
            Err(Trouble::OverBudget) => Err(Trouble::OverBudget),
            Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
            Ok(_) | Err(Trouble::Failed(_)) => Ok(Value::Bool(true)),
        }
    }

    /// `||` where `deciding` is true, `&&` where it is false: a deciding operand decides, whatever the other is.
    fn either(&mut self, left: &'a Node, right: &'a Node, deciding: bool) -> Step<'a> {
        let left = match self.boolean(left) {
            Ok(value) if value == deciding => return Ok(Value::Bool(deciding)),
            Err(Trouble::OverBudget) => return Err(Trouble::OverBudget),
            left => left,
        };
        match self.boolean(right) {
            Ok(value) if value == deciding => Ok(Value::Bool(deciding)),
            Err(Trouble::OverBudget) => Err(Trouble::OverBudget),
            right => left.and(right).map(Value::Bool),
        }
    }

    fn binary(&mut self, operator: Operator, left: &'a Node, right: &'a Node) -> Step<'a> {
        let left = self.value(left)?;
        let right = self.value(right)?;
        let ordered = |expected: fn(Ordering) -> bool| match left.order(&right) {
            Some(order) => Ok(Value::Bool(expected(order))),
            None => failed(format!("{} and {} cannot be compared", left.kind(), right.kind())),
        };
        match operator {
            Operator::Equal => self.equal(&left, &right).map(Value::Bool),
            Operator::NotEqual => self.equal(&left, &right).map(|equal| Value::Bool(!equal)),
            Operator::In => self.is_in(&left, &right).map(Value::Bool),
            Operator::Add => self.sum(left, right),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                self.pay(left.width().min(right.width()))?;
                ordered(match operator {
                    Operator::Less => Ordering::is_lt,
                    Operator::LessOrEqual => Ordering::is_le,
                    Operator::Greater => Ordering::is_gt,
                    _ => Ordering::is_ge,
                })
            }
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                arithmetic(operator, &left, &right)
            }
        }
    }

    /// Equal in kind and content; numbers by their value. Different kinds are not equal.
    fn equal(&mut self, one: &Value<'a>, other: &Value<'a>) -> Result<bool, Trouble> {
        self.pay(one.width().min(other.width()))?;
        match (one, other) {
            (Value::Null, Value::Null) => Ok(true),
            (Value::List(one), Value::List(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for at in 0..one.len() {
                    let (Some(one), Some(other)) = (one.get(at), other.get(at)) else {
                        return Ok(false);
                    };
                    if !self.equal(&one?, &other?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Map(one), Value::Map(other)) => {
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (key, value) in *one {
                    let Some(counterpart) = other.get(key) else {
                        return Ok(false);
                    };
                    if !self.equal(&Value::of_json(value)?, &Value::of_json(counterpart)?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(one.order(other) == Some(Ordering::Equal)),
        }
    }

    fn is_in(&mut self, wanted: &Value<'a>, container: &Value<'a>) -> Result<bool, Trouble> {
        match (wanted, container) {
            (Value::Text(key), Value::Map(fields)) => Ok(fields.contains_key(key.as_str())),
            (_, Value::Map(_)) => failed(format!("{} is no name of a field", wanted.kind())),
            (_, Value::List(items)) => {
                for item in (0..items.len()).filter_map(|at| items.get(at)) {
                    if self.equal(wanted, &item?)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => failed(format!("{} contains nothing", container.kind())),
        }
    }

    fn sum(&mut self, left: Value<'a>, right: Value<'a>) -> Step<'a> {
        match (&left, &right) {
            (Value::Text(one), Value::Text(other)) => {
                let (one, other) = (one.as_str(), other.as_str());
                self.pay((one.len().saturating_add(other.len())) / 8)?;
                Ok(Value::made(&[one, other].concat()))
            }
            (Value::List(one), Value::List(other)) => {
                self.pay(one.len().saturating_add(other.len()))?;
                let items = [one, other]
                    .into_iter()
                    .flat_map(|list| (0..list.len()).filter_map(|at| list.get(at)));
                let items: Vec<Value<'a>> = items.collect::<Result<_, String>>()?;
                Ok(Value::List(List::Made(items.into())))
            }
            _ => arithmetic(Operator::Add, &left, &right),
        }
    }

    fn call(&mut self, function: Function, arguments: &'a [Node]) -> Step<'a> {
        let Some((first, rest)) = arguments.split_first() else {
            return failed("a function lacks its argument");
        };
        let receiver = self.value(first)?;
        match (function, rest) {
            (Function::Contains | Function::StartsWith | Function::EndsWith, [part]) => {
                let part = self.text(part)?;
                let Value::Text(text) = &receiver else {
                    return failed(format!("{} is searched where a string belongs", receiver.kind()));
                };
                let (text, part) = (text.as_str(), part.as_str());
                self.pay(text.len() / 8)?;
                Ok(Value::Bool(match function {
                    Function::StartsWith => text.starts_with(part),
                    Function::EndsWith => text.ends_with(part),
                    _ => text.contains(part),
                }))
            }
            (Function::Size, []) => self.size(&receiver),
            _ => converted(function, &receiver),
        }
    }

    fn size(&mut self, value: &Value<'a>) -> Step<'a> {
        let size = match value {
            Value::List(items) => items.len(),
            Value::Map(fields) => fields.len(),
            Value::Text(text) => {
                self.pay(text.as_str().len() / 8)?;
                text.as_str().chars().count()
            }
            other => return failed(format!("{} has no size", other.kind())),
        };
        i64::try_from(size).map(Value::Int).map_err(|_| overflow())
    }

    /// The items of a list, the names of the fields of a map.
    fn range(&mut self, range: &'a Node) -> Result<Vec<Value<'a>>, Trouble> {
        match self.value(range)? {
            Value::List(items) => {
                self.pay(items.len())?;
                let items = (0..items.len()).filter_map(|at| items.get(at));
                Ok(items.collect::<Result<_, String>>()?)
            }
            Value::Map(fields) => {
                self.pay(fields.len())?;
                let names = fields.keys().map(|name| Value::Text(Text::Found(name)));
                Ok(names.collect())
            }
            other => failed(format!("{} has no items", other.kind())),
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Step<'a> {
        let items = self.range(&fold.range)?;
        let start = self.value(&fold.start)?;
        let base = self.locals.len();
        self.locals.extend([Value::Null, start]);
        let result = self.fold_over(items, fold, base);
        self.locals.truncate(base);
        result
    }

    /// A step that fails does not end the loop: a later item may decide, as `true` does for `exists` whatever the other
    /// items are. The failure stands where none did.
    fn fold_over(&mut self, items: Vec<Value<'a>>, fold: &'a Fold, base: usize) -> Step<'a> {
        let mut failure = None;
        for item in items {
            if !self.boolean(&fold.proceed)? {
                break;
            }
            self.set(base, item);
            match self.value(&fold.step) {
                Ok(next) => self.set(base.saturating_add(1), next),
                Err(Trouble::OverBudget) => return Err(Trouble::OverBudget),
                Err(failed) => failure = Some(failed),
            }
        }
        match failure {
            Some(failure) if self.boolean(&fold.proceed)? => Err(failure),
            _ => self.value(&fold.result),
        }
    }

    fn set(&mut self, place: usize, value: Value<'a>) {
        if let Some(local) = self.locals.get_mut(place) {
            *local = value;
        }
    }

    fn collect(&mut self, collect: &'a Collect) -> Step<'a> {
        let items = self.range(&collect.range)?;
        let base = self.locals.len();
        self.locals.extend([Value::Null, Value::Null]);
        let result = self.collect_over(items, collect, base);
        self.locals.truncate(base);
        result
    }

    fn collect_over(&mut self, items: Vec<Value<'a>>, collect: &'a Collect, base: usize) -> Step<'a> {
        let mut built = Vec::new();
        for item in items {
            self.set(base, item);
            let wanted = match &collect.when {
                None => true,
                Some(when) => self.boolean(when)?,
            };
            if wanted {
                built.push(self.value(&collect.item)?);
            }
        }
        Ok(Value::List(List::Made(built.into())))
    }
}

fn overflow() -> Trouble {
    Trouble::Failed("a number does not fit into 64 bits".into())
}

fn arithmetic<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Step<'a> {
    match (left, right) {
        (Value::Int(one), Value::Int(other)) => {
            let (one, other) = (*one, *other);
            let result = match operator {
                Operator::Add => one.checked_add(other),
                Operator::Subtract => one.checked_sub(other),
                Operator::Multiply => one.checked_mul(other),
                Operator::Divide | Operator::Modulo if other == 0 => {
                    return failed("a number is divided by zero");
                }
                Operator::Divide => one.checked_div(other),
                _ => one.checked_rem(other),
            };
            result.map(Value::Int).ok_or_else(overflow)
        }
        (Value::Double(one), Value::Double(other)) => doubles(operator, *one, *other),
        _ => times(operator, left, right),
    }
}

fn doubles<'a>(operator: Operator, one: f64, other: f64) -> Step<'a> {
    Ok(Value::Double(match operator {
        Operator::Add => one + other,
        Operator::Subtract => one - other,
        Operator::Multiply => one * other,
        Operator::Divide => one / other,
        _ => return failed("fractions have no remainder"),
    }))
}

fn times<'a>(operator: Operator, left: &Value<'a>, right: &Value<'a>) -> Step<'a> {
    let beyond = || Trouble::Failed("a time lies beyond the calendar".into());
    match (operator, left, right) {
        (Operator::Subtract, Value::Time(one), Value::Time(other)) => {
            Ok(Value::Span(one.duration_since(*other)))
        }
        (Operator::Subtract, Value::Time(time), Value::Span(span)) => {
            time.checked_sub(*span).map(Value::Time).map_err(|_| beyond())
        }
        (Operator::Add, Value::Time(time), Value::Span(span))
        | (Operator::Add, Value::Span(span), Value::Time(time)) => {
            time.checked_add(*span).map(Value::Time).map_err(|_| beyond())
        }
        (Operator::Add, Value::Span(one), Value::Span(other)) => {
            one.checked_add(*other).map(Value::Span).ok_or_else(beyond)
        }
        (Operator::Subtract, Value::Span(one), Value::Span(other)) => {
            one.checked_sub(*other).map(Value::Span).ok_or_else(beyond)
        }
        _ => failed(format!(
            "{} and {} cannot be reckoned with",
            left.kind(),
            right.kind()
        )),
    }
}

fn converted<'a>(function: Function, value: &Value<'a>) -> Step<'a> {
    let refuse = || failed(format!("{} cannot be converted", value.kind()));
    match (function, value) {
        (Function::ToText, Value::Text(_))
        | (Function::ToInt, Value::Int(_))
        | (Function::ToDouble, Value::Double(_))
        | (Function::ToTime, Value::Time(_))
        | (Function::ToSpan, Value::Span(_)) => Ok(value.clone()),
        (Function::ToText, Value::Int(number)) => Ok(Value::made(&number.to_string())),
        (Function::ToText, Value::Double(number)) => Ok(Value::made(&number.to_string())),
        (Function::ToText, Value::Bool(value)) => Ok(Value::made(&value.to_string())),
        (Function::ToText, Value::Time(time)) => Ok(Value::made(&time.to_string())),
        (Function::ToInt, Value::Text(text)) => match text.as_str().parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => failed(format!("{} is no whole number", shown(text.as_str()))),
        },
        (Function::ToInt, Value::Time(time)) => Ok(Value::Int(time.as_second())),
        (Function::ToDouble, Value::Text(text)) => match text.as_str().parse() {
            Ok(number) => Ok(Value::Double(number)),
            Err(_) => failed(format!("{} is no number", shown(text.as_str()))),
        },
        (Function::ToDouble, Value::Int(number)) => Ok(Value::Double(*number as f64)),
        (Function::ToTime, Value::Text(text)) => Ok(Value::Time(value::time(text.as_str())?)),
        (Function::ToSpan, Value::Text(text)) => Ok(Value::Span(value::span(text.as_str())?)),
        _ => refuse(),
    }
}
