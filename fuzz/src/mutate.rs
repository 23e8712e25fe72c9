//! Random changes to inputs.

/// A small generator of random numbers (xorshift64*): good enough to choose changes by, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % end).unwrap_or(0)
    }

    pub(crate) fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// No input grows beyond this.
const LONGEST: usize = 1 << 16;

/// What parsers trip over.
const TOKENS: &[&str] = &[
    "",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "\0",
    "\u{feff}",
    "%00",
    "/",
    "..",
    "@",
    "#",
    "?",
    "=",
    "<",
    ">",
    ";",
    "sha256:",
    "sha512:",
    "https://",
    "127.0.0.1",
    "[::1]",
    "xn--",
    "*",
    "**",
    "\r\n",
    "-----BEGIN ",
    "-----END ",
    "AAAA",
    "\u{30}\u{82}",
    "\u{ff}\u{ff}",
];

/// Changes an input, now and then with a part of another one.
pub(crate) fn mutate(random: &mut Random, input: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut changed = input.to_vec();
    for _ in 0..=random.below(4) {
        change(random, &mut changed, other, words);
    }
    changed.truncate(LONGEST);
    changed
}

fn change(random: &mut Random, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    let at = random.below(input.len() + 1);
    let length = random.below(input.len().saturating_sub(at).min(64) + 1);
    match random.below(10) {
        0 => flip(random, input),
        1 => {
            let byte = random.number().to_le_bytes()[0];
            input.insert(at, byte);
        }
        2 => drop(input.drain(at..at + length)),
        3 => {
            let copy = input[at..at + length].to_vec();
            insert(input, at, &copy);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let part = &other[from..(from + random.below(256)).min(other.len())];
            insert(input, at, part);
        }
        5 => {
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        6 => {
            let word = random.choose(words).copied().unwrap_or("");
            insert(input, at, word.as_bytes());
        }
        7 => {
            let token = random.choose(TOKENS).copied().unwrap_or("");
            insert(input, at, token.as_bytes());
        }
        8 => {
            let token = random.choose(TOKENS).copied().unwrap_or("");
            input.splice(at..at + length, token.bytes());
        }
        _ => repeat(random, input, at, length),
    }
}

fn flip(random: &mut Random, input: &mut [u8]) {
    let at = random.below(input.len());
    let bit = 1 << random.below(8);
    if let Some(byte) = input.get_mut(at) {
        *byte ^= bit;
    }
}

/// A part very many times, for depth and length.
fn repeat(random: &mut Random, input: &mut Vec<u8>, at: usize, length: usize) {
    let part = input[at..at + length].to_vec();
    let times = random.below(LONGEST / part.len().max(16) / 4);
    insert(input, at, &part.repeat(times));
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    if input.len() + part.len() <= LONGEST {
        input.splice(at..at, part.iter().copied());
    }
}
