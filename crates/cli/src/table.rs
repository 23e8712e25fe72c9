//! Tables and notes for people: no line is longer than [`WIDTH`], and a colour never says what the words do not.

pub(crate) use policy::cut;
use std::fmt::Write as _;
use std::io::IsTerminal;

use crate::output::wrapped;

/// No line is longer, in characters.
pub(crate) const WIDTH: usize = 100;
const GAP: &str = "  ";
/// What is cut is not cut further than this.
const NARROWEST: usize = 8;

/// How a text is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Names are cut where a line would be too long.
    pub(crate) narrow: bool,
    pub(crate) colour: bool,
}

impl Style {
    /// For a reader in front of this terminal; without colours where there is none, or where NO_COLOR is set.
    pub(crate) fn of_stdout(narrow: bool) -> Self {
        Style {
            narrow,
            colour: colours_are_wanted() && std::io::stdout().is_terminal(),
        }
    }

    /// The same for what is shown beside the answer.
    pub(crate) fn of_stderr() -> Self {
        Style {
            narrow: true,
            colour: colours_are_wanted() && std::io::stderr().is_terminal(),
        }
    }

    /// The text in the colour of a tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => None,
            Tone::Good => Some(32),
            Tone::Bad => Some(31),
            Tone::Doubtful => Some(33),
        };
        match code.filter(|_| self.colour) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

fn colours_are_wanted() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !unwanted && !dumb
}

/// What a colour stands for, beside words that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Doubtful,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Cell {
            text: text.into(),
            tone,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::toned(text, Tone::Plain)
    }
}

/// A column: its head, and whether its words may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Printed whole.
    Whole(&'static str),
    /// Cut where a line would be too long.
    Name(&'static str),
}

impl Column {
    fn head(self) -> &'static str {
        match self {
            Column::Whole(head) | Column::Name(head) => head,
        }
    }
}

/// Columns and rows.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Table {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with one cell for each column.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    pub(crate) fn is_last(&self, cells: &[Cell]) -> bool {
        self.rows.last().is_some_and(|last| last == cells)
    }

    pub(crate) fn text(&self, style: Style) -> String {
        let widths = self.widths(style.narrow);
        let heads: Vec<Cell> = self.columns.iter().map(|column| column.head().into()).collect();
        let mut text = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            let mut pending = 0;
            for (cell, width) in row.iter().zip(&widths) {
                let shown = cut(&cell.text, *width);
                line.push_str(&" ".repeat(pending));
                line.push_str(&style.paint(cell.tone, &shown));
                pending = width - shown.chars().count() + GAP.len();
            }
            // Writing to a String never fails.
            writeln!(text, "{}", line.trim_end()).unwrap_or_default();
        }
        text
    }

    /// As wide as the longest word, but the widest of the names give way until a line fits.
    fn widths(&self, narrow: bool) -> Vec<usize> {
        let longest = |column: usize| {
            let cells = self
                .rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.chars().count());
            let head = self.columns[column].head().chars().count();
            cells.chain([head]).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(longest).collect();
        let gaps = self.columns.len().saturating_sub(1) * GAP.len();
        while narrow && widths.iter().sum::<usize>() + gaps > WIDTH {
            let names = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(width, column)| matches!(column, Column::Name(_)) && **width > NARROWEST);
            match names.map(|(width, _)| width).max() {
                Some(widest) => *widest -= 1,
                None => break,
            }
        }
        widths
    }
}

/// Explanations that several rows refer to by a number, each told once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    /// The number of a note, which is added if it is a new one.
    pub(crate) fn number(&mut self, note: String) -> usize {
        let known = self.0.iter().position(|known| *known == note);
        known.unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        }) + 1
    }

    /// One paragraph for each, after an empty line.
    pub(crate) fn text(&self) -> String {
        let notes = self.0.iter().enumerate();
        notes
            .map(|(number, note)| format!("\n{}", paragraph(&format!("[{}] ", number + 1), note)))
            .collect()
    }
}

/// A text behind a head, broken into lines that begin below its first letter.
pub(crate) fn paragraph(head: &str, text: &str) -> String {
    let indent = head.chars().count();
    let mut paragraph = String::new();
    for (at, line) in wrapped(text, WIDTH - indent).into_iter().enumerate() {
        let head = if at == 0 {
            head.to_owned()
        } else {
            " ".repeat(indent)
        };
        writeln!(paragraph, "{head}{line}").unwrap_or_default();
    }
    paragraph
}

/// `1 workload`, `2 workloads`.
pub(crate) fn counted(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        narrow: true,
        colour: false,
    };

    fn table(name: &str) -> Table {
        let mut table = Table::new([
            Column::Name("NAME"),
            Column::Whole("STATE"),
            Column::Name("OTHER"),
        ]);
        table.row([name.into(), Cell::toned("Violating", Tone::Bad), "x".into()]);
        table
    }

    #[test]
    fn the_widest_names_give_way_and_what_is_whole_stays_whole() {
        let text = table(&"n".repeat(200)).text(PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("n…  Violating  x"), "{text}");
        let wide = Style {
            narrow: false,
            ..PLAIN
        };
        assert!(table(&"n".repeat(200)).text(wide).contains(&"n".repeat(200)));
    }

    #[test]
    fn a_colour_changes_no_word_and_no_column() {
        let coloured = table("web").text(Style {
            colour: true,
            ..PLAIN
        });
        assert!(coloured.contains("\u{1b}[31mViolating\u{1b}[0m"), "{coloured}");
        let bare = coloured.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
        assert_eq!(bare, table("web").text(PLAIN));
    }

    #[test]
    fn a_note_is_told_once() {
        let mut notes = Notes::default();
        let numbers = ["a", "b", "a"].map(|note| notes.number(note.to_owned()));
        assert_eq!(numbers, [1, 2, 1]);
        assert_eq!(notes.text(), "\n[1] a\n\n[2] b\n");
    }
}
