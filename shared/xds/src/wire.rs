//! A reader of encoded messages that borrows what it reads.
//!
//! Generated messages copy every text into an allocation of its own. A mesh arrives as a hundred thousand resources of
//! which most parts are known already: what only has to be compared or skipped is looked at where it lies.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The encoding is broken.
    #[error("the message is broken")]
    Broken(#[from] DecodeError),
    /// A field promises more than there is.
    #[error("field {0} is cut short")]
    Short(u32),
    /// A field is not of the type that it should be.
    #[error("field {0} is of another type")]
    Type(u32),
    /// A text is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Text(u32),
}

/// One occurrence of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) tag: u32,
    value: Value<'a>,
    /// The field as it is encoded, with its key.
    pub(crate) encoded: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, in the order of their encoding; ends after the first error.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<Field<'a>, Undecodable> {
        let start = self.0;
        let (tag, wire_type) = decode_key(&mut self.0)?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0)?);
                let parts = length.ok().and_then(|length| self.0.split_at_checked(length));
                let (bytes, rest) = parts.ok_or(Undecodable::Short(tag))?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => {
                skip_field(wire_type, tag, &mut self.0, DecodeContext::default())?;
                Value::Other
            }
        };
        let encoded = start.get(..start.len() - self.0.len()).unwrap_or_default();
        Ok(Field { tag, value, encoded })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Undecodable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(&self) -> Result<&'a [u8], Undecodable> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) | Value::Other => Err(Undecodable::Type(self.tag)),
        }
    }

    pub(crate) fn number(&self) -> Result<u64, Undecodable> {
        match self.value {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) | Value::Other => Err(Undecodable::Type(self.tag)),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, Undecodable> {
        std::str::from_utf8(self.bytes()?).map_err(|_error| Undecodable::Text(self.tag))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use proto::istio::workload as wire;

    use super::*;

    /// Reads the name and the addresses of a workload as the generated code does.
    fn read(encoded: &[u8]) -> Result<(String, Vec<Vec<u8>>), Undecodable> {
        let (mut name, mut addresses) = (String::new(), Vec::new());
        for field in Fields::of(encoded) {
            let field = field?;
            match field.tag {
                1 => name = field.text()?.to_owned(),
                3 => addresses.push(field.bytes()?.to_vec()),
                _ => {}
            }
        }
        Ok((name, addresses))
    }

    proptest! {
        #[test]
        fn fields_are_read_as_the_generated_code_reads_them(
            name in "[a-z]{0,40}",
            addresses in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..17), 0..4),
            capacity in any::<Option<u32>>(),
            flipped in any::<Option<(prop::sample::Index, u8)>>(),
        ) {
            let addresses = addresses.into_iter().map(Into::into).collect();
            let message = wire::Workload { name, addresses, capacity, ..wire::Workload::default() };
            let mut encoded = message.encode_to_vec();
            if let Some((index, byte)) = flipped && !encoded.is_empty() {
                let index = index.index(encoded.len());
                encoded[index] = byte;
            }
            if let Ok(message) = wire::Workload::decode(&*encoded) {
                let addresses = message.addresses.iter().map(|address| address.to_vec()).collect();
                prop_assert_eq!(read(&encoded), Ok((message.name, addresses)));
            }
            let together: Vec<u8> = Fields::of(&encoded).map_while(Result::ok).flat_map(|field| field.encoded).copied().collect();
            prop_assert!(encoded.starts_with(&together));
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart() {
        let first = |encoded: &'static [u8]| Fields::of(encoded).next().unwrap();
        assert_eq!(first(&[0x0a, 5, b'a']), Err(Undecodable::Short(1)));
        assert!(matches!(first(&[0x0f]), Err(Undecodable::Broken(_))));
        assert_eq!(first(&[0x08, 5]).unwrap().bytes(), Err(Undecodable::Type(1)));
        assert_eq!(first(&[0x0a, 1, 0xff]).unwrap().text(), Err(Undecodable::Text(1)));
    }
}
