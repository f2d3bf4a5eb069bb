//! The difference of two objects in Kubernetes' form: Go structs, with `-` before old and `+`
//! before new lines.
//!
//! The form is for people. Its library in Go (go-cmp) does not promise an exact text, and this
//! module does not either. Field names are those of the API, capitalized.

use schema::{FieldType, Type};
use serde_json::Value;

/// How a line differs from the old object.
#[derive(Clone, Copy)]
enum Mark {
    Same,
    Old,
    New,
}

struct Report {
    text: String,
    depth: usize,
}

/// Returns the difference of two objects of a type, which has the name `go` in Go.
pub(super) fn of_objects(go: &str, ty: Option<FieldType>, old: &Value, new: &Value) -> String {
    let mut report = Report {
        text: String::new(),
        depth: 0,
    };
    report.line(Mark::Same, &format!("{go}{{"));
    report.inside(|report| match ty {
        Some(FieldType::Object(ty)) => report.fields(ty, old, new),
        _ => report.pair("", old, new),
    });
    report.line(Mark::Same, "}");
    report.text
}

impl Report {
    fn line(&mut self, mark: Mark, text: &str) {
        let mark = match mark {
            Mark::Same => "  ",
            Mark::Old => "- ",
            Mark::New => "+ ",
        };
        let indent = "\t".repeat(self.depth);
        self.text.push_str(&format!("{mark}{indent}{text}\n"));
    }

    fn inside(&mut self, report: impl FnOnce(&mut Report)) {
        self.depth += 1;
        report(self);
        self.depth -= 1;
    }

    fn skipped(&mut self, count: usize, what: &str) {
        match count {
            0 => {}
            1 => self.line(Mark::Same, &format!("... // 1 identical {what}")),
            count => self.line(Mark::Same, &format!("... // {count} identical {what}s")),
        }
    }

    fn pair(&mut self, name: &str, old: &Value, new: &Value) {
        self.line(Mark::Old, &format!("{name}{},", literal(old)));
        self.line(Mark::New, &format!("{name}{},", literal(new)));
    }

    /// Compares the fields of a struct in its order, which is that of the field numbers.
    fn fields(&mut self, ty: &Type, old: &Value, new: &Value) {
        let mut fields: Vec<_> = ty.fields.iter().collect();
        fields.sort_by_key(|field| field.number);
        let mut same = 0;
        for field in fields {
            let (before, after) = (&old[field.json], &new[field.json]);
            if before == after {
                same += 1;
                continue;
            }
            self.skipped(std::mem::take(&mut same), "field");
            self.value(&format!("{}: ", capitalised(field.json)), field.ty, before, after);
        }
        self.skipped(same, "field");
    }

    fn value(&mut self, name: &str, ty: FieldType, old: &Value, new: &Value) {
        match (ty, old, new) {
            (FieldType::Object(ty), Value::Object(_), Value::Object(_)) => {
                self.line(Mark::Same, &format!("{name}core.{}{{", ty.short_name()));
                self.inside(|report| report.fields(ty, old, new));
                self.line(Mark::Same, "},");
            }
            (FieldType::List(FieldType::Object(ty)), Value::Array(old), Value::Array(new))
                if old.len() == new.len() =>
            {
                self.line(Mark::Same, &format!("{name}[]core.{}{{", ty.short_name()));
                self.inside(|report| report.elements(ty, old, new));
                self.line(Mark::Same, "},");
            }
            _ => self.pair(name, old, new),
        }
    }

    fn elements(&mut self, ty: &Type, old: &[Value], new: &[Value]) {
        let mut same = 0;
        for (old, new) in old.iter().zip(new) {
            if old == new {
                same += 1;
                continue;
            }
            self.skipped(std::mem::take(&mut same), "element");
            self.line(Mark::Same, "{");
            self.inside(|report| report.fields(ty, old, new));
            self.line(Mark::Same, "},");
        }
        self.skipped(same, "element");
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

/// Returns a value on one line, as a literal in Go.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", capitalised(name), literal(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
