//! Field selectors: `spec.nodeName=a,status.phase!=Failed`.

use super::{SelectorError, boxed};

/// One requirement of a [`FieldSelector`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldRequirement {
    /// The field's path, such as `spec.nodeName`.
    pub field: Box<str>,
    /// The value that it is compared with.
    pub value: Box<str>,
    /// True for `=` and `==`, false for `!=`.
    pub equal: bool,
}

/// A compiled field selector: every requirement must match.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct FieldSelector {
    requirements: Box<[FieldRequirement]>,
}

impl FieldSelector {
    /// Parses the `fieldSelector` parameter. Empty selects everything.
    /// [`FieldSelector::unsupported`] checks whether the kind has the fields.
    pub fn parse(query: &str) -> Result<FieldSelector, SelectorError> {
        let requirements = terms(query)
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| requirement(&term).ok_or_else(|| not_understood(query, &term)))
            .collect::<Result<_, _>>()?;
        Ok(FieldSelector { requirements })
    }

    /// Returns whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Returns the approximate size in memory, in bytes.
    pub fn size(&self) -> usize {
        let requirements = self.requirements.iter();
        requirements
            .map(|required| size_of_val(required) + boxed(&required.field) + boxed(&required.value))
            .sum()
    }

    /// Returns the requirements.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Returns whether fields, read by `field`, match every requirement. A field without a value
    /// counts as empty.
    pub fn matches<'f>(&self, field: impl Fn(&str) -> Option<&'f str>) -> bool {
        self.requirements.iter().all(|requirement| {
            (field(&requirement.field).unwrap_or_default() == &*requirement.value) == requirement.equal
        })
    }

    /// Returns the value that `field` must have, when the selector requires one. Watchers are
    /// indexed by it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|requirement| requirement.equal && *requirement.field == *field)
            .map(|requirement| &*requirement.value)
    }

    /// Returns the first field that is not metadata.name, metadata.namespace or one of
    /// `selectable`.
    pub fn unsupported(&self, selectable: &[&str]) -> Option<&str> {
        self.requirements
            .iter()
            .map(|requirement| &*requirement.field)
            .find(|field| {
                !matches!(*field, "metadata.name" | "metadata.namespace") && !selectable.contains(field)
            })
    }

    /// Returns the error for a field that the kind cannot select by. As in Kubernetes, its words
    /// differ between kinds with selectable fields and kinds with only name and namespace.
    pub fn unsupported_error(field: &str, selectable: &[&str]) -> SelectorError {
        SelectorError(if selectable.is_empty() {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {field}")
        })
    }
}

fn not_understood(query: &str, term: &str) -> SelectorError {
    SelectorError(format!("invalid selector: '{query}'; can't understand '{term}'"))
}

/// Splits at commas without a backslash before them. The backslashes stay for [`unescape`].
fn terms(query: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in query.chars() {
        match c {
            ',' if !escaped => terms.push(String::new()),
            _ => terms.last_mut().into_iter().for_each(|term| term.push(c)),
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn requirement(term: &str) -> Option<FieldRequirement> {
    let bytes = term.as_bytes();
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        let (operator, equal) = match byte {
            b'\\' => {
                escaped = true;
                continue;
            }
            b'!' if bytes.get(at + 1) == Some(&b'=') => (2, false),
            b'=' if bytes.get(at + 1) == Some(&b'=') => (2, true),
            b'=' => (1, true),
            _ => continue,
        };
        let value = unescape(term.get(at + operator..)?)?;
        return Some(FieldRequirement {
            field: term.get(..at)?.into(),
            value: value.into(),
            equal,
        });
    }
    None
}

/// Replaces `\\`, `\,` and `\=` by the character. A bare `,` or `=`, or another backslash, is an
/// error.
fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}
