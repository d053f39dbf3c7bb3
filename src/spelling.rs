//! The distance between a name and a known one: whether it is that name misspelt.
//!
//! In a short name nearly every letter makes another word of it, so a longer one may have more
//! mistakes. The consequence of a mistake is up to the caller.

/// Names up to this length may have one mistake, longer ones two.
const SHORT_LETTERS: usize = 5;

/// Whether `name` is taken for `known`, with as many mistakes as that may have, regardless of case.
#[must_use]
pub fn is_near(name: &str, known: &str) -> bool {
    let mistakes_max = if known.chars().count() <= SHORT_LETTERS { 1 } else { 2 };
    // The difference in length alone is that many letters; names from outside may be long.
    name.chars().count().abs_diff(known.chars().count()) <= mistakes_max
        && letters_apart(name, known) <= mistakes_max
}

/// How many letters have to be added, removed, replaced, or exchanged with the next one to turn
/// `name`, in any case, into `known`. If they differ much in length: that difference.
#[must_use]
pub fn letters_apart(name: &str, known: &str) -> usize {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let known: Vec<char> = known.chars().collect();
    let difference = name.len().abs_diff(known.len());
    if difference > known.len() {
        return difference;
    }
    // Row by row of the usual table; exchanges look two rows back.
    let mut rows = vec![(0..=known.len()).collect::<Vec<usize>>()];
    for i in 1..=name.len() {
        let mut row = vec![i];
        for j in 1..=known.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(name[i - 1] != known[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let is_exchange =
                i > 1 && j > 1 && name[i - 1] == known[j - 2] && name[i - 2] == known[j - 1];
            if is_exchange {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[name.len()][known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mistake is one letter more, fewer or other, or two exchanged.
    #[test]
    fn a_mistake_is_one_letter_or_an_exchange() {
        for (name, known, apart) in [
            ("last", "last", 0),
            ("LAST", "last", 0),
            ("lats", "last", 1),
            ("lasst", "last", 1),
            ("las", "last", 1),
            ("lost", "last", 1),
            ("lang", "last", 2),
            ("cahnnle", "channel", 2),
            ("", "last", 4),
            ("xxxxxxxxxxxx", "last", 8),
        ] {
            assert_eq!(letters_apart(name, known), apart, "{name} {known}");
        }
        assert!(is_near("cahnnle", "channel") && !is_near("chan", "channel"));
        assert!(is_near("lats", "last") && !is_near("lang", "last"));
    }
}
