//! A sorted set that counts how often each member was inserted, because two slices may contain the
//! same address.

/// A sorted list without duplicates, with the number of insertions of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted<T> {
    members: Vec<T>,
    holders: Vec<u32>,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Counted {
            members: Vec::new(),
            holders: Vec::new(),
        }
    }
}

impl<T: Ord> Counted<T> {
    pub(super) fn insert(&mut self, member: T) {
        match self.members.binary_search(&member) {
            Ok(at) => self.holders[at] += 1,
            Err(at) => {
                self.members.insert(at, member);
                self.holders.insert(at, 1);
            }
        }
    }

    pub(super) fn remove(&mut self, member: &T) {
        let Ok(at) = self.members.binary_search(member) else {
            return;
        };
        self.holders[at] -= 1;
        if self.holders[at] == 0 {
            self.members.remove(at);
            self.holders.remove(at);
        }
    }

    pub(super) fn members(&self) -> &[T] {
        &self.members
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
