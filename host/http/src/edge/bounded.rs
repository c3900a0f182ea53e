//! A map that never holds more than it was made for. Clients choose the keys of what is kept about them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places of a bucket. A key has one bucket; where it is full, what matters for the shortest time makes room.
const WAYS: usize = 8;

/// A key, spread evenly over 64 bits in a way that clients cannot foresee.
pub(super) trait Key: Copy + Eq {
    fn hash(&self) -> u64;
}

impl Key for u64 {
    fn hash(&self) -> u64 {
        *self
    }
}

impl Key for [u8; 32] {
    fn hash(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *self;
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A value that matters until some time.
pub(super) trait Until: Copy {
    /// The time, on a clock that all values of a map share.
    fn until(&self) -> u64;
}

/// The places that a key may be in.
type Bucket<K, V> = Vec<(K, V)>;

/// A map of a fixed number of places, each bucket of them behind a lock of its own.
pub(super) struct Bounded<K, V> {
    buckets: Box<[Mutex<Bucket<K, V>>]>,
}

impl<K: Key, V: Until> Bounded<K, V> {
    /// A map of so many places, rounded up to whole buckets.
    pub fn new(places: usize) -> Self {
        let buckets = places.div_ceil(WAYS).max(1);
        Self { buckets: (0..buckets).map(|_| Mutex::default()).collect() }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<V> {
        self.bucket(key).iter().find(|(other, _)| other == key).map(|(_, value)| *value)
    }

    /// Replaces a key's value by what `change` makes of it, unless that is an error; answers what else it says.
    ///
    /// # Errors
    /// That of `change`.
    pub fn update<T, E>(&self, key: &K, change: impl FnOnce(Option<V>) -> Result<(T, V), E>) -> Result<T, E> {
        let mut bucket = self.bucket(key);
        let place = bucket.iter().position(|(other, _)| other == key);
        let (answer, value) = change(place.map(|place| bucket[place].1))?;
        match place {
            Some(place) => bucket[place].1 = value,
            None if bucket.len() < WAYS => bucket.push((*key, value)),
            None => {
                if let Some(first) = bucket.iter_mut().min_by_key(|(_, value)| value.until()) {
                    *first = (*key, value);
                }
            }
        }
        Ok(answer)
    }

    fn bucket(&self, key: &K) -> MutexGuard<'_, Bucket<K, V>> {
        let place = key.hash() % self.buckets.len() as u64;
        // What panicked left the bucket as it was: it changes in one step.
        self.buckets[place as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Values in it, and the places that have memory.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        let buckets = || self.buckets.iter().map(|bucket| bucket.lock().unwrap());
        (buckets().map(|bucket| bucket.len()).sum(), buckets().map(|bucket| bucket.capacity()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Ends(u64);

    impl Until for Ends {
        fn until(&self) -> u64 {
            self.0
        }
    }

    fn put(map: &Bounded<u64, Ends>, key: u64, value: u64) {
        map.update(&key, |_| Ok::<_, ()>(((), Ends(value)))).unwrap();
    }

    #[test]
    fn what_ends_first_makes_room() {
        let map = Bounded::<u64, Ends>::new(WAYS);
        (1..=8).for_each(|key| put(&map, key, 100 - key));
        put(&map, 9, 200);
        assert_eq!((map.get(&8), map.get(&7), map.get(&9)), (None, Some(Ends(93)), Some(Ends(200))));
        let refused = map.update(&9, Err::<((), Ends), _>);
        assert_eq!(refused, Err(Some(Ends(200))), "an error changes nothing");
        assert_eq!(map.get(&9), Some(Ends(200)));
    }

    #[test]
    fn it_never_grows_beyond_its_places() {
        let map = Bounded::<u64, Ends>::new(1024);
        for key in 0..200_000_u64 {
            put(&map, key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key);
        }
        let (values, places) = map.size();
        assert_eq!((values, places), (1024, 1024));
    }
}
