//! The dynamic table (RFC 7541, section 2.3.2).

use std::collections::VecDeque;

use bytes::Bytes;

use super::ENTRY_OVERHEAD;

/// What the peer has told to be remembered, newest first.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<(Bytes, Bytes)>,
    size: usize,
    largest: usize,
}

impl Table {
    pub(super) fn new(largest: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, largest }
    }

    /// The entry of this age, the newest being 0.
    pub(super) fn entry(&self, age: usize) -> Option<&(Bytes, Bytes)> {
        self.entries.get(age)
    }

    /// Adds an entry at the expense of the oldest; one that is larger than the table only empties it.
    pub(super) fn add(&mut self, name: Bytes, value: Bytes) {
        let size = cost(&name, &value);
        self.shrink(self.largest.saturating_sub(size));
        if size <= self.largest {
            self.entries.push_front((name, value));
            self.size += size;
        }
    }

    pub(super) fn resize(&mut self, largest: usize) {
        self.largest = largest;
        self.shrink(largest);
    }

    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some((name, value)) = self.entries.pop_back() else { break };
            self.size -= cost(&name, &value);
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

fn cost(name: &Bytes, value: &Bytes) -> usize {
    name.len() + value.len() + ENTRY_OVERHEAD
}
