//! "Did you mean": the known word that is most similar to a mistyped one.

/// Similarity from which a word counts as mistyped; 1 is the same word.
const ALIKE: f64 = 0.75;

/// Returns the word of `known` that `word` is most likely a mistyping of.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| {
        // The part before the slash is often the same for all words and would make all of them
        // similar.
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

/// Returns the end of an error message about a word; empty when no known word is similar.
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
