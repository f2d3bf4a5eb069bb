//! "Did you mean": the known word that is nearest to a mistyped one.

/// Likeness from which on a word counts as a typing error of another; 1 is the same word.
const ALIKE: f64 = 0.75;

/// The one of `known` that `word` is most likely to be a mistyping of.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| {
        // What stands before the slash is often the same for all of them, and would make everything alike.
        match (word.split_once('/'), candidate.split_once('/')) {
            (Some((prefix, name)), Some((other, candidate))) if prefix == other => {
                strsim::normalized_damerau_levenshtein(name, candidate)
            }
            (None, Some((_, name))) if name == word => 1.0,
            _ => strsim::normalized_damerau_levenshtein(word, candidate),
        }
    };
    known
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What follows a complaint about a word; nothing when no other word is near.
pub(crate) fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_finds_its_word_and_a_stranger_finds_none() {
        let known = ["kubernetes.io/hostname", "kubernetes.io/os", "disktype"];
        assert_eq!(nearest("disktyp", known), Some("disktype"));
        assert_eq!(
            nearest("kubernetes.io/hostnam", known),
            Some("kubernetes.io/hostname")
        );
        assert_eq!(nearest("hostname", known), Some("kubernetes.io/hostname"));
        assert_eq!(nearest("kubernetes.io/zone", known), None);
        assert_eq!(nearest("gpu", known), None);
    }
}
