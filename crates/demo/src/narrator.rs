//! Tells the story: headings and sentences on standard error, what a user would see on standard output.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Every line fits a terminal of this width.
const WIDTH: usize = 100;

/// Writes the story. Counts its chapters.
#[derive(Debug)]
pub struct Narrator {
    chapters: u32,
    terminal: bool,
    began: Instant,
}

impl Narrator {
    /// A narrator who begins now.
    pub fn new() -> Self {
        Self {
            chapters: 0,
            terminal: std::io::stderr().is_terminal(),
            began: Instant::now(),
        }
    }

    /// Since the story began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A heading.
    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        let (bold, plain) = if self.terminal {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        eprintln!("\n{bold}── {} · {title}{plain}", self.chapters);
    }

    /// Some sentences.
    pub fn say(&self, text: &str) {
        for line in text.lines().flat_map(|line| fold(line, 0)) {
            eprintln!("{line}");
        }
    }

    /// Says what is waited for, and at the end how long it took; on a terminal the seconds are counted.
    pub async fn during<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        write_progress(&format!("{what} … "));
        loop {
            tokio::select! {
                done = &mut work => {
                    let again = if self.terminal { format!("\r{what} … ") } else { String::new() };
                    eprintln!("{again}{}", seconds(began.elapsed()));
                    return done;
                }
                _ = ticks.tick(), if self.terminal => {
                    write_progress(&format!("\r{what} … {} s", began.elapsed().as_secs()));
                }
            }
        }
    }

    /// A command as a user would type it, and what it printed: long lines go on in the next one, under their value.
    pub fn show(&self, command: &str, output: &str) {
        println!("$ {command}");
        for line in output.lines().flat_map(|line| fold(line, value_column(line))) {
            println!("{line}");
        }
    }
}

/// `1.4 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// What cannot be told does not stop the story.
fn write_progress(text: &str) {
    let mut out = std::io::stderr().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A line's first [`WIDTH`] characters, as `cut -c-100` gives them.
pub fn cut(line: &str) -> String {
    line.chars().take(WIDTH).collect::<String>().trim_end().to_owned()
}

/// Where the value begins in a line such as `  Message:  no signature`; 0 where there is none.
fn value_column(line: &str) -> usize {
    let Some(colon) = line.find(":  ") else { return 0 };
    let value = line[colon + 1..].find(|letter: char| letter != ' ');
    value.map_or(0, |value| colon + 1 + value)
}

/// Lines of at most [`WIDTH`] characters, broken at spaces, all but the first indented. A word that is too long for
/// a line stays whole.
fn fold(text: &str, indent: usize) -> Vec<String> {
    if text.chars().count() <= WIDTH {
        return vec![text.to_owned()];
    }
    let mut lines = Vec::new();
    let mut line = text[..indent].to_owned();
    let mut length = indent;
    let mut words_in_line = 0;
    for word in text[indent..].split(' ') {
        let word_length = word.chars().count();
        if words_in_line > 0 && length + 1 + word_length > WIDTH {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
            (length, words_in_line) = (indent, 0);
        }
        if words_in_line > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word_length;
        words_in_line += 1;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_line_stays_as_it_is() {
        assert_eq!(fold("  Name:  web", 9), ["  Name:  web"]);
        assert_eq!(cut("NAME   AGE"), "NAME   AGE");
    }

    #[test]
    fn a_long_value_goes_on_under_itself_within_the_width() {
        let line = format!("  Message:  {}", "word ".repeat(40).trim_end());
        let lines = fold(&line, value_column(&line));
        assert!(lines.len() > 1);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines[1..].iter().all(|line| line.starts_with("            word")));
        let words = |lines: &[String]| {
            lines
                .iter()
                .flat_map(|line| line.split_whitespace().map(str::to_owned))
                .count()
        };
        assert_eq!(words(&lines), words(&[line]));
    }

    #[test]
    fn a_word_that_is_too_long_is_kept_whole() {
        let line = "x".repeat(WIDTH + 20);
        assert_eq!(fold(&line, 0), [line.as_str()]);
    }

    #[test]
    fn a_cut_line_ends_at_the_width_whatever_its_letters_are() {
        assert_eq!(cut(&"ä".repeat(WIDTH + 1)).chars().count(), WIDTH);
    }
}
