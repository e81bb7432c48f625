//! Versions of resources, kept small: there is one for every resource of the mesh.

use std::fmt;

/// How many bytes a hash has that is kept as such.
const HASH: usize = 16;

/// The version of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Version {
    /// Thirty-two lower-case hexadecimal digits, as control planes that hash make them.
    Hash([u8; HASH]),
    /// Anything else.
    Text(Box<str>),
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        hash(text.as_bytes()).map_or_else(|| Self::Text(Box::from(text)), Self::Hash)
    }
}

impl Default for Version {
    /// The empty version, which is that of nothing.
    fn default() -> Self {
        Self::Text(Box::default())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn hash(text: &[u8]) -> Option<[u8; HASH]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let mut bytes = [0; HASH];
    if pairs.len() != bytes.len() {
        return None;
    }
    // Whether all were digits is asked once, at the end.
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (digit(*high), digit(*low));
        seen |= high | low;
        *byte = high << 4 | low;
    }
    (seen < 16).then_some(bytes)
}

/// The value of a digit; more than 15 for anything else.
fn digit(letter: u8) -> u8 {
    let (number, letter) = (letter.wrapping_sub(b'0'), letter.wrapping_sub(b'a'));
    if number < 10 {
        number
    } else if letter < 6 {
        letter + 10
    } else {
        u8::MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_version_is_given_back_as_it_came(text in "[0-9a-f]{32}|[0-9a-fA-F]{30,34}|.{0,40}") {
            prop_assert_eq!(Version::from(&*text).to_string(), text);
        }
    }

    #[test]
    fn a_hash_is_kept_in_place() {
        assert!(matches!(Version::from("ed7002b439e9ac845f22357d822bac14"), Version::Hash(_)));
        assert!(size_of::<Version>() <= 24);
    }
}
