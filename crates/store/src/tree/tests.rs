use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::object::{Key, Revision};

fn object(number: u16, revision: u64) -> Arc<Object<()>> {
    let key = Key::of("pods", "default", &format!("{number:05}"));
    Arc::new(Object {
        key,
        revision: Revision(revision),
        body: Bytes::new(),
        attributes: (),
    })
}

fn contents(tree: &Tree<()>) -> Vec<(String, u64)> {
    tree.range(0..tree.len())
        .map(|object| (object.key.to_string(), object.revision.0))
        .collect()
}

proptest! {
    #[test]
    fn tree_is_an_ordered_map_and_its_clones_stand_still(
        operations in prop::collection::vec((0u16..600, any::<bool>(), prop::bool::weighted(0.02)), 1..1500),
        probe in 0u16..600,
    ) {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        let mut clones = Vec::new();
        for (revision, (number, put, clone)) in operations.into_iter().enumerate() {
            let revision = revision as u64;
            let key = object(number, 0).key.to_string();
            let before = if put {
                let before = tree.insert(object(number, revision));
                prop_assert_eq!(before.as_ref().map(|object| object.revision.0), model.insert(key, revision));
                before
            } else {
                let before = tree.remove(&key);
                prop_assert_eq!(before.as_ref().map(|object| object.revision.0), model.remove(&key));
                before
            };
            drop(before);
            if clone {
                clones.push((tree.clone(), model.clone()));
            }
        }
        clones.push((tree, model));
        let probe = object(probe, 0).key.to_string();
        for (tree, model) in clones {
            prop_assert_eq!(tree.len(), model.len());
            prop_assert_eq!(tree.get(&probe).map(|object| object.revision.0), model.get(&probe).copied());
            let rank = tree.rank(&probe);
            prop_assert_eq!(rank, model.range(..probe.clone()).count());
            let rest: Vec<u64> = tree.range(rank..tree.len()).map(|object| object.revision.0).collect();
            prop_assert_eq!(rest, model.range(probe.clone()..).map(|(_, revision)| *revision).collect::<Vec<_>>());
            prop_assert_eq!(contents(&tree), model.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn tree_from_sorted_objects_contains_all() {
    let objects: Vec<_> = (0..1000).map(|number| object(number, 7)).collect();
    let tree = Tree::from_sorted(objects);
    assert_eq!(tree.len(), 1000);
    assert_eq!(contents(&tree).len(), 1000);
    assert!(contents(&tree).is_sorted());
    assert_eq!(tree.range(995..1000).len(), 5);
    assert_eq!(tree.range(1000..1000).count(), 0);
}
