//! Values by number. A number that was removed leads nowhere, though its place is used again.

/// Values by number.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// How often a place is used before its numbers come again.
const GENERATIONS: u32 = 1 << 28;

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { places: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a value, and returns its number, which is below 2^60. `None` if there is no place left.
    pub(crate) fn add(&mut self, value: T) -> Option<u64> {
        if self.free.is_empty() {
            self.free.push(u32::try_from(self.places.len()).ok()?);
            self.places.push(Slot { generation: 0, value: None });
        }
        let at = self.free.pop()?;
        let slot = &mut self.places[at as usize];
        slot.value = Some(value);
        self.len += 1;
        Some(u64::from(slot.generation) << 32 | u64::from(at))
    }

    /// The value with this number.
    pub(crate) fn get(&mut self, number: u64) -> Option<&mut T> {
        let (at, generation) = parts(number)?;
        let slot = self.places.get_mut(at).filter(|slot| slot.generation == generation)?;
        slot.value.as_mut()
    }

    /// Removes a value.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (at, generation) = parts(number)?;
        let slot = self.places.get_mut(at).filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(u32::try_from(at).ok()?);
        self.len -= 1;
        Some(value)
    }

    /// The numbers of those that `wanted` chooses. It looks at all.
    pub(crate) fn numbers(&self, wanted: impl Fn(&T) -> bool) -> Vec<u64> {
        let numbered = (0u64..).zip(&self.places);
        let wanted = numbered.filter(|(_, slot)| slot.value.as_ref().is_some_and(&wanted));
        wanted.map(|(at, slot)| u64::from(slot.generation) << 32 | at).collect()
    }
}

fn parts(number: u64) -> Option<(usize, u32)> {
    Some((usize::try_from(number & 0xffff_ffff).ok()?, u32::try_from(number >> 32).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_number_leads_nowhere() {
        let mut slots = Slots::default();
        let (a, b) = (slots.add('a').unwrap(), slots.add('b').unwrap());
        assert_eq!((slots.get(a).copied(), slots.len()), (Some('a'), 2));
        assert_eq!(slots.remove(a), Some('a'));
        let c = slots.add('c').unwrap();
        assert_ne!(a, c);
        assert_eq!((slots.get(a).copied(), slots.remove(a), slots.len()), (None, None, 2));
        assert_eq!((slots.get(b).copied(), slots.get(c).copied()), (Some('b'), Some('c')));
        assert_eq!(slots.numbers(|value| *value != 'b'), [c]);
    }
}
