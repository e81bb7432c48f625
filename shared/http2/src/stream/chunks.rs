//! A queue of chunks that costs nothing more while it holds none or one.

use std::collections::VecDeque;

use bytes::Bytes;

/// Chunks in their order; none of them is empty.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    front: Bytes,
    /// What is behind the front.
    #[expect(clippy::box_collection, reason = "a quarter of the size for the streams that have none, which are most")]
    rest: Option<Box<VecDeque<Bytes>>>,
}

impl Chunks {
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
        } else if self.front.is_empty() {
            self.front = chunk;
        } else {
            self.rest.get_or_insert_default().push_back(chunk);
        }
    }

    /// The first chunk; empty if there is none.
    pub(crate) fn front(&self) -> &Bytes {
        &self.front
    }

    /// How long each of them is.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> {
        let rest = self.rest.iter().flat_map(|rest| rest.iter());
        std::iter::once(&self.front).chain(rest).map(Bytes::len)
    }

    /// Takes at most `length` bytes of the first chunk.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        if length < self.front.len() {
            return self.front.split_to(length);
        }
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front()).unwrap_or_default();
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
        std::mem::replace(&mut self.front, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_as_they_went_in_and_the_queue_owns_nothing_then() {
        let mut chunks = Chunks::default();
        for text in ["one", "", "two", "three"] {
            chunks.push(Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(chunks.take(1), "o");
        assert_eq!(chunks.front(), "ne");
        assert_eq!(chunks.take(9), "ne");
        assert_eq!(chunks.take(3), "two");
        assert_eq!(chunks.take(4), "thre");
        assert_eq!(chunks.take(4), "e");
        assert!(chunks.is_empty() && chunks.rest.is_none());
        assert_eq!(chunks.take(4), "");
    }
}
