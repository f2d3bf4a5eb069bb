//! Numbers of endpoints in a destination's list. They start at 0 without a gap, because the rules
//! draw a random number.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

/// Changes `slots` to contain `wanted` with as few moves as possible. Returns the new endpoint of
/// each changed number. A new endpoint takes the number of a removed one, or a new number at the
/// end. Remaining gaps are filled from the end.
pub(super) fn refill(
    slots: &mut Vec<SocketAddr>,
    wanted: &[SocketAddr],
) -> BTreeMap<usize, Option<SocketAddr>> {
    let before: HashSet<&SocketAddr> = slots.iter().collect();
    let staying: HashSet<&SocketAddr> = wanted.iter().collect();
    let mut coming: Vec<SocketAddr> = wanted.iter().filter(|at| !before.contains(at)).copied().collect();
    let mut empty: Vec<usize> = (0..slots.len())
        .filter(|n| !staying.contains(&slots[*n]))
        .collect();
    let mut changed = BTreeMap::new();
    // The last gaps come first, so that the list is never shortened by a number that was just
    // filled.
    while let Some(place) = empty.pop() {
        if let Some(endpoint) = coming.pop() {
            slots[place] = endpoint;
            changed.insert(place, Some(endpoint));
            continue;
        }
        slots.swap_remove(place);
        changed.insert(slots.len(), None);
        if let Some(moved) = slots.get(place) {
            changed.insert(place, Some(*moved));
        }
    }
    for endpoint in coming {
        changed.insert(slots.len(), Some(endpoint));
        slots.push(endpoint);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(numbers: &[u8]) -> Vec<SocketAddr> {
        let endpoint = |number: &u8| SocketAddr::from(([10, 0, 0, *number], 80));
        numbers.iter().map(endpoint).collect()
    }

    #[test]
    fn every_refill_holds_what_is_wanted_and_tells_each_place_that_differs() {
        // All pairs of subsets of five endpoints, from every order that results from the earlier
        // ones.
        let subset = |bits: u8| endpoints(&(0..5).filter(|n| bits >> n & 1 == 1).collect::<Vec<_>>());
        let mut slots = Vec::new();
        for (from, to) in (0..32u8).flat_map(|from| (0..32u8).map(move |to| (from, to))) {
            refill(&mut slots, &subset(from));
            let before = slots.clone();
            let changed = refill(&mut slots, &subset(to));
            let mut sorted = slots.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, subset(to));
            let mut told: Vec<Option<SocketAddr>> = before.iter().copied().map(Some).collect();
            told.resize(before.len().max(slots.len()), None);
            for (place, endpoint) in &changed {
                assert_ne!(told[*place], *endpoint, "told what was so before");
                told[*place] = *endpoint;
            }
            told.truncate(
                slots
                    .len()
                    .max(told.iter().rposition(Option::is_some).map_or(0, |last| last + 1)),
            );
            let now: Vec<Option<SocketAddr>> = slots.iter().copied().map(Some).collect();
            assert_eq!(told, now);
            let (gone, come) = ((from & !to).count_ones(), (to & !from).count_ones());
            assert!(changed.len() <= 2 * gone.max(come) as usize);
        }
    }
}
