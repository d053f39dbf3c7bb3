//! `GET /client.js` and `/client.d.ts`: the JavaScript client, from the server that it is for.
//!
//! So a page always has the client that fits its server, without a package or a build. The files
//! are part of the binary; the script goes out without its comments and its indentation. Anyone
//! may have them, from any page.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::answer::{self, Answer};

/// One of the client's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// The ES module.
    Script,
    /// Its types.
    Types,
}

struct Served {
    content_type: &'static str,
    /// Changes with the text.
    tag: HeaderValue,
    text: Bytes,
}

static SCRIPT: LazyLock<Served> = LazyLock::new(|| {
    Served::new("text/javascript; charset=utf-8", compact(include_str!("client.js")))
});
static TYPES: LazyLock<Served> = LazyLock::new(|| {
    Served::new("application/typescript; charset=utf-8", include_str!("client.d.ts").to_owned())
});

impl Served {
    fn new(content_type: &'static str, text: String) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()));
        Self { content_type, tag: tag.expect("digits are valid in a header"), text: text.into() }
    }
}

/// Answers with `file`, or that the asker's copy is still the right one.
pub(super) fn answer(file: File, asked: &HeaderMap) -> Answer {
    let served: &Served = match file {
        File::Script => &SCRIPT,
        File::Types => &TYPES,
    };
    let is_known = asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
        let has = |text: &[u8]| text.windows(served.tag.len()).any(|part| served.tag == part);
        tags == "*" || has(tags.as_bytes())
    });
    let (status, text) = if is_known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, served.text.clone())
    };
    let mut answer = answer::typed(status, served.content_type, text);
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, served.tag.clone());
    // A copy may be kept, but each use asks first: a page gets the client of its server's version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // A module is loaded from another origin only with this.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// The script without its indentation, empty lines, and lines that are comments; the source keeps
/// to what makes this safe.
fn compact(source: &str) -> String {
    let lines = source.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    code.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const SOURCE: &str = include_str!("client.js");
    const BYTES_MAX: usize = 4 * 1024;

    #[test]
    fn the_script_is_less_than_4_kib_compressed() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&SCRIPT.text).unwrap();
        let bytes = gzip.finish().unwrap().len();
        assert!(bytes < BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn the_script_loses_comments_and_indentation_and_nothing_else() {
        let source = "// About.\n\nconst a = () =>\n  \"// no comment\";\n  // Why.\n    a();\n";
        assert_eq!(compact(source), "const a = () =>\n\"// no comment\";\na();\n");
        assert!(!SOURCE.contains("/*"), "comments have lines of their own");
        let odd_quotes = |line: &&str| line.matches('`').count() % 2 == 1;
        assert_eq!(SOURCE.lines().find(odd_quotes), None, "a string ends on its line");
        for line in SOURCE.lines() {
            assert!(line.chars().count() <= 100, "over 100 columns: {line}");
            let is_code = !line.trim().is_empty() && !line.trim().starts_with("//");
            assert!(!is_code || !line.contains(" // "), "a comment has a line of its own: {line}");
        }
    }

    #[test]
    fn everything_that_can_be_called_or_given_is_declared() {
        let types = include_str!("client.d.ts");
        let class = SOURCE.split_once("export class WsBcast {").unwrap().1;
        let methods: Vec<&str> = class
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| line.ends_with(") {") && line.starts_with(char::is_alphabetic))
            .map(|line| line.split('(').next().unwrap())
            .filter(|name| !name.contains('#'))
            .collect();
        let all = ["constructor", "get positions", "subscribe", "unsubscribe", "publish", "close"];
        assert_eq!(methods, all);
        let declared = types.split_once("export class WsBcast {").unwrap().1;
        for method in methods {
            assert!(declared.contains(&format!("\n  {method}(")), "{method}");
        }
        for option in
            ["channels", "since", "last", "token", "transport", "onMessage", "onGap", "onState"]
        {
            assert!(types.contains(&format!("\n  {option}")), "{option}");
            assert!(SOURCE.contains(option), "{option}");
        }
        assert_eq!(types.matches('{').count(), types.matches('}').count());
    }
}
