//! Labels of objects.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::share::shared;

/// Labels: an immutable, sorted map of strings in one allocation. Equal maps share it, because a
/// cache of 100,000 nodes and their pods holds millions of labels, and the pods of a set have the
/// same ones.
///
/// Keys and values are packed as `key NUL value NUL …`. A valid label contains no NUL; a pair that
/// does is left out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// Packs pairs, sorted by key.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let sorted: BTreeMap<&str, &str> = pairs.into_iter().collect();
        let mut packed = String::new();
        for (key, value) in sorted {
            if key.contains('\0') || value.contains('\0') {
                continue;
            }
            packed.push_str(key);
            packed.push('\0');
            packed.push_str(value);
            packed.push('\0');
        }
        Labels(shared(&packed))
    }

    /// Packs an object's `metadata.labels`, without values that are not strings.
    pub fn of(map: &Map<String, Value>) -> Labels {
        Labels::new(
            map.iter()
                .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))),
        )
    }

    /// Returns the pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split_terminator('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(present, _)| *present == key)
            .map(|(_, value)| value)
    }

    /// Returns whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels(shared(""))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs: Option<BTreeMap<Cow<'de, str>, Cow<'de, str>>> = Option::deserialize(deserializer)?;
        let pairs = pairs.unwrap_or_default();
        Ok(Labels::new(pairs.iter().map(|(key, value)| (&**key, &**value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_key() {
        let labels = Labels::new([("tier", "front"), ("app", "web"), ("empty", "")]);
        assert_eq!(labels.get("app"), Some("web"));
        assert_eq!(labels.get("empty"), Some(""));
        assert_eq!(labels.get("tier"), Some("front"));
        assert_eq!(labels.get("web"), None);
        assert_eq!(
            labels.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ["app", "empty", "tier"]
        );
        assert!(Labels::default().is_empty());
        assert_eq!(Labels::default().iter().count(), 0);
    }
}
