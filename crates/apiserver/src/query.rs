//! The parameters behind the question mark.

use std::borrow::Cow;

use api::status::Status;

/// Query parameters in the order given.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses what follows the `?`.
    pub(crate) fn parse(query: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Query(
            pairs
                .map(|(key, value)| (Cow::into_owned(key), Cow::into_owned(value)))
                .collect(),
        )
    }

    /// The first value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of `key` unless it is empty, which Kubernetes reads as absent.
    pub(crate) fn non_empty(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All values of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// A boolean as Kubernetes reads them: absent is false, present without a value or as anything but `false`
    /// and `0` is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number, or 400.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(value) = self.non_empty(key) else {
            return Ok(None);
        };
        let parsed = value.parse().map_err(|_| {
            Status::bad_request(format!(
                "unable to decode query parameter {key:?}: {value:?} is not a whole number"
            ))
        })?;
        Ok(Some(parsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let query = Query::parse(Some("a&b=&c=true&d=1&e=false&f=0"));
        for name in ["a", "b", "c", "d"] {
            assert!(query.flag(name), "{name}");
        }
        for name in ["e", "f", "missing"] {
            assert!(!query.flag(name), "{name}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc&fieldSelector=x+y"));
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("fieldSelector"), Some("x y"));
    }
}
