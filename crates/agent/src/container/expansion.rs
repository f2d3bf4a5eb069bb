//! `$(NAME)` in commands, arguments and environment values.

/// Replaces `$(NAME)` by what `value` knows; an unknown name stays as written, and `$$` is a `$`.
pub(crate) fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        out.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[start..rest.len() - tail.len()]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn known_names_are_replaced_and_all_else_stays() {
        let cases = [
            ("a $(X) b", "a 1 b"),
            ("$(X)$(X)", "11"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(X)", "$(X)"),
            ("$$$(X)", "$1"),
            ("$X $", "$X $"),
            ("$(X", "$(X"),
            ("cost: $5", "cost: $5"),
            ("", ""),
        ];
        for (text, expected) in cases {
            let known = |name: &str| (name == "X").then_some("1");
            assert_eq!(expand(text, known), expected, "{text}");
        }
    }
}
