//! The streams of a connection: by place, and by number.

use super::Stream;

/// Streams in places that are used again, with an index by stream number.
#[derive(Debug, Default)]
pub(crate) struct Store {
    places: Vec<Option<Stream>>,
    free: Vec<u32>,
    /// Number and place, by number: streams are opened in the order of their numbers.
    index: Vec<(u32, u32)>,
}

impl Store {
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Adds a stream whose number is larger than all before; its place.
    pub(crate) fn add(&mut self, stream: Stream) -> u32 {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(free) = self.places.get_mut(place as usize) {
                    *free = Some(stream);
                }
                place
            }
            None => {
                self.places.push(Some(stream));
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.push((id, place));
        place
    }

    /// The place of a stream by its number.
    pub(crate) fn find(&self, id: u32) -> Option<u32> {
        let found = self.index.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.index.get(found).map(|(_, place)| *place)
    }

    pub(crate) fn at(&mut self, place: u32) -> Option<&mut Stream> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, place: u32) {
        let Some(stream) = self.places.get_mut(place as usize).and_then(Option::take) else { return };
        if let Ok(found) = self.index.binary_search_by_key(&stream.id, |(id, _)| *id) {
            self.index.remove(found);
        }
        self.free.push(place);
        if self.index.is_empty() {
            *self = Self::default();
        }
    }

    /// All streams, with their places.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream)> {
        (0_u32..).zip(&mut self.places).filter_map(|(place, stream)| Some((place, stream.as_mut()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_given_back_with_the_last_stream() {
        let mut store = Store::default();
        let places: Vec<_> = [1, 3, 5].map(|id| store.add(Stream::new(id, 0, 0))).into();
        store.remove(places[1]);
        store.remove(places[1]);
        assert_eq!((store.find(1), store.find(3), store.find(5)), (Some(places[0]), None, Some(places[2])));
        assert_eq!(store.add(Stream::new(7, 0, 0)), places[1]);
        assert_eq!((store.at(places[1]).unwrap().id, store.index.len()), (7, 3));
        for place in places {
            store.remove(place);
        }
        assert!(store.is_empty() && store.places.capacity() == 0);
    }
}
