//! JSON in the form of Go's encoder: compact, with sorted keys and escaped HTML characters.
//!
//! Kubernetes compares some objects by these bytes (the data of a ControllerRevision), so they must
//! be exact.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, ser::Formatter};

/// Encodes a value: compact, keys sorted, with `<`, `>`, `&`, U+2028 and U+2029 escaped (`\u003c`,
/// for example).
pub fn to_vec(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
    match value.serialize(&mut serializer) {
        Ok(()) => out,
        // Writing a value with string keys into memory cannot fail.
        Err(error) => unreachable!("cannot write a JSON value: {error}"),
    }
}

/// As [`to_vec`], as text.
pub fn to_string(value: &Value) -> String {
    String::from_utf8_lossy(&to_vec(value)).into_owned()
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, after) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let Some(special) = after.chars().next() else {
                break;
            };
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &after[special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Go writes whole numbers without a fraction, and uses exponents only from 1e21.
        if value.fract() == 0.0 && value.abs() < 1e21 {
            write!(writer, "{value:.0}")
        } else {
            write!(writer, "{value}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_html_characters_are_escaped() {
        let value = json!({"b": "<a & b>", "a": [1, true, null], "c": "line\u{2028}end\n\"q\""});
        assert_eq!(
            to_string(&value),
            r#"{"a":[1,true,null],"b":"\u003ca \u0026 b\u003e","c":"line\u2028end\n\"q\""}"#
        );
    }

    #[test]
    fn whole_floats_lose_their_fraction() {
        assert_eq!(to_string(&json!([1.0, 1.5, 1e3])), "[1,1.5,1000]");
    }
}
