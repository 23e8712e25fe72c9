//! As much of DER as it takes to find parts of a certificate and to write it again without one of them.

use crate::{Result, TestkitError};

pub(crate) const SEQUENCE: u8 = 0x30;

/// One element: its tag, what it holds, and all of its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements that this one consists of.
    pub(crate) fn parts(&self) -> Result<Vec<Self>> {
        elements(self.content)
    }

    /// The part with this number, counted from 0.
    pub(crate) fn part(&self, number: usize) -> Result<Self> {
        let part = self.parts()?.get(number).copied();
        part.ok_or_else(|| {
            invalid(format!(
                "found no part {number} in an element with tag {:#04x}",
                self.tag
            ))
        })
    }
}

/// The elements that follow each other in `input`.
pub(crate) fn elements(mut input: &[u8]) -> Result<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (element, rest) =
            read(input).ok_or_else(|| invalid("found a length beyond the end".to_owned()))?;
        found.push(element);
        input = rest;
    }
    Ok(found)
}

/// The only element of `input`.
pub(crate) fn element(input: &[u8]) -> Result<Element<'_>> {
    match elements(input)?.as_slice() {
        [element] => Ok(*element),
        several => Err(invalid(format!("found {} elements, expected one", several.len()))),
    }
}

/// Writes an element.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    match content.len() {
        short @ 0..=0x7f => encoded.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            encoded.push(0x80 | significant.len() as u8);
            encoded.extend(significant);
        }
    }
    encoded.extend(content);
    encoded
}

fn read(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes.iter().try_fold(0_usize, |length, byte| {
                Some(length.checked_mul(256)? + usize::from(*byte))
            })?;
            (length, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = &input[..input.len() - rest.len()];
    Some((Element { tag, content, whole }, rest))
}

fn invalid(reason: String) -> TestkitError {
    TestkitError::Crypto {
        what: "read DER".to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_whatever_its_length() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            let encoded = encode(SEQUENCE, &content);
            let read = element(&encoded).unwrap();
            assert_eq!(
                (read.tag, read.content, read.whole),
                (SEQUENCE, &content[..], &encoded[..])
            );
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert!(elements(&[SEQUENCE, 3, 1, 2]).is_err());
        assert!(elements(&[SEQUENCE, 0x82, 1]).is_err());
        assert!(element(&[SEQUENCE, 0, SEQUENCE, 0]).is_err());
    }
}
