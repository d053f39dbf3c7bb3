//! Sentences of comments have nouns as subjects: "A client that …", not "Who …" or "What …". So
//! have the names of functions, which are sentences where the function is a test.
//!
//! A reader should know from the first word whom a sentence is about. Questions may begin so, and
//! code is no sentence.

use super::{Source, check, function_name, word_at};

/// Words that leave open whom the sentence is about.
const PRONOUNS: [&str; 7] = ["Who", "Whoever", "Whom", "Whomever", "Whose", "What", "Whatever"];

/// Words that no clause begins with, either: a noun goes there ("gone: a client that …").
const BARE_SUBJECTS: [&str; 2] = ["who", "whoever"];

#[test]
fn sentences_have_nouns_as_subjects() {
    check(|source, errors| {
        let Source { name, text } = source;
        for (n, sentence) in headless_sentences(text) {
            errors.push(format!("{name}:{n}: a noun instead of a pronoun: {sentence}"));
        }
    });
}

#[test]
fn a_sentence_is_told_from_code_and_questions() {
    let text =
        "/// A log. What it\n/// holds stays. What now? `What` is code.\nlet What = 1;\n//! Who\n";
    let found = |text: &str| headless_sentences(text).iter().map(|(n, _)| *n).collect::<Vec<_>>();
    assert_eq!(found(text), [1, 4]);
    assert_eq!(found("    // - Whoever\n// ```\n// What();\n// ```\n// | What |\n"), [1]);
    assert_eq!(found("/// Somebody, e.g. What counts\n/// - Whose\n"), [1, 2]);
    assert_eq!(found("// Gone: who leaves\n\n// So, whoever\n\n// One who, or whose\n"), [1, 3]);
    assert_eq!(found("// Asked, who is it?\n"), []);
}

#[test]
fn functions_have_nouns_in_their_names() {
    check(|source, errors| {
        let Source { name, text } = source;
        for (i, line) in text.lines().enumerate() {
            let function = function_name(line).unwrap_or_default();
            if begins_with_pronoun(function) {
                errors.push(format!("{name}:{}: a noun first: {function}", i + 1));
            }
        }
    });
}

#[test]
fn a_name_is_judged_by_its_first_word() {
    assert!(begins_with_pronoun("who_leaves_is_gone") && begins_with_pronoun("whatever_comes"));
    assert!(!begins_with_pronoun("what") && !begins_with_pronoun("whole_frames_are_read"));
}

fn begins_with_pronoun(function: &str) -> bool {
    let first = function.split_once('_').map(|(first, _)| first);
    first.is_some_and(|first| PRONOUNS.iter().any(|pronoun| pronoun.eq_ignore_ascii_case(first)))
}

/// The sentences of comments that begin with a pronoun or have a bare subject, each with its
/// paragraph's first line.
fn headless_sentences(text: &str) -> Vec<(usize, String)> {
    let sentences = paragraphs(text).into_iter().flat_map(|(n, paragraph)| {
        let ends = paragraph.match_indices(['.', '!', '?']).map(|(at, _)| at + 1);
        let is_end = |at: &usize| paragraph[*at..].starts_with(' ');
        let mut begin = 0;
        let ends: Vec<usize> = ends.filter(is_end).chain([paragraph.len()]).collect();
        let cut = ends.into_iter().map(|end| {
            let sentence = paragraph[begin..end].trim().to_owned();
            begin = end;
            (n, sentence)
        });
        cut.collect::<Vec<_>>()
    });
    let is_headless = |(_, sentence): &(usize, String)| {
        let begins_so = PRONOUNS.contains(&word_at(sentence).as_str());
        !sentence.ends_with('?') && (begins_so || has_bare_subject(sentence))
    };
    sentences.filter(is_headless).collect()
}

/// Whether a clause begins with "who": after a comma, a semicolon or a colon.
fn has_bare_subject(sentence: &str) -> bool {
    let marks = sentence.match_indices([',', ';', ':']);
    let mut clauses = marks.filter_map(|(at, _)| sentence[at + 1..].strip_prefix(' '));
    clauses.any(|clause| BARE_SUBJECTS.contains(&word_at(clause).as_str()))
}

/// The paragraphs and list items of comments, each with its first line, without code and tables.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let (mut is_open, mut is_code) = (false, false);
    for (i, line) in text.lines().enumerate() {
        let comment =
            line.trim_start().strip_prefix("//").map(|it| it.trim_start_matches(['/', '!']));
        let words = comment.unwrap_or_default().trim();
        if words.starts_with("```") {
            is_code = !is_code;
        }
        if words.is_empty() || is_code || words.starts_with("```") || words.starts_with('|') {
            is_open = false;
            continue;
        }
        let item = words.strip_prefix("- ");
        if let (true, None, Some((_, last))) = (is_open, item, paragraphs.last_mut()) {
            last.push(' ');
            last.push_str(words);
        } else {
            paragraphs.push((i + 1, item.unwrap_or(words).to_owned()));
        }
        is_open = true;
    }
    paragraphs
}
