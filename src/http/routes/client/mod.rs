//! `GET /client.js` and `/client.d.ts`: the JavaScript client, from the server that it talks to.
//!
//! So a page always has the client that fits its server, without a package or a build. The files
//! are part of the binary; the script is sent without its comments and its indentation, and
//! compressed to clients that accept gzip. Anyone may have them, from any page.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    sync::LazyLock,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::http::answer::{self, Answer};

/// One of the client's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum File {
    /// The ES module.
    Script,
    /// Its types.
    Types,
}

struct Served {
    content_type: &'static str,
    plain: Representation,
    gzip: Representation,
}

/// A representation of the file (RFC 9110, section 8): the bytes that are sent.
struct Representation {
    /// Changes with the text, and is another one for each representation (RFC 9110, section
    /// 8.8.3.3).
    tag: HeaderValue,
    bytes: Bytes,
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
        let representation = |mark: &str, bytes: Vec<u8>| {
            let tag = HeaderValue::try_from(format!("\"{:016x}{mark}\"", hasher.finish()));
            Representation { tag: tag.expect("letters are valid in a header"), bytes: bytes.into() }
        };
        let (gzip, plain) =
            (representation("-gzip", gzip(&text)), representation("", text.into_bytes()));
        Self { content_type, plain, gzip }
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    written.expect("memory takes everything")
}

/// Answers with `file`, or that the requester's copy is still the right one.
pub(in crate::http) fn answer(file: File, asked: &HeaderMap) -> Answer {
    let served: &Served = match file {
        File::Script => &SCRIPT,
        File::Types => &TYPES,
    };
    let takes_gzip = takes_gzip(asked);
    let sent = if takes_gzip { &served.gzip } else { &served.plain };
    let is_known = asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
        let has = |text: &[u8]| text.windows(sent.tag.len()).any(|part| sent.tag == part);
        tags == "*" || has(tags.as_bytes())
    });
    let (status, bytes) = if is_known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, sent.bytes.clone())
    };
    let mut answer = answer::typed(status, served.content_type, bytes);
    let headers = answer.headers_mut();
    if takes_gzip && !is_known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::ETAG, sent.tag.clone());
    // A copy may be kept, but each use asks first: a page gets the client of its server's version.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Whether `Accept-Encoding` (RFC 9110, section 12.5.3) allows gzip: by its name, or by a star
/// where it is not named.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let fields = asked.get_all(header::ACCEPT_ENCODING).iter();
    let codings = fields.filter_map(|field| field.to_str().ok()).flat_map(|field| field.split(','));
    let mut by_star = false;
    for coding in codings {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_allowed = weight.is_none_or(|text| text.parse::<f32>().is_ok_and(|q| q > 0.0));
        if ["gzip", "x-gzip"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return is_allowed;
        }
        by_star |= name == "*" && is_allowed;
    }
    by_star
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
    use super::*;

    const SOURCE: &str = include_str!("client.js");
    const BYTES_MAX: usize = 5 * 1024;

    #[test]
    fn the_script_is_less_than_5_kib_compressed() {
        let bytes = SCRIPT.gzip.bytes.len();
        assert!(bytes < BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn gzip_goes_to_whom_accepts_it() {
        for (field, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("br, x-gzip", true),
            ("*", true),
            ("identity, *;q=0.1", true),
            ("", false),
            ("identity", false),
            ("br, zstd", false),
            ("gzip;q=0", false),
            ("*, gzip; q=0.000", false),
            ("gzip;q=much", false),
            ("*;q=0", false),
            ("notgzip", false),
        ] {
            let value = HeaderValue::from_str(field).unwrap();
            let asked = HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]);
            assert_eq!(takes_gzip(&asked), expected, "{field}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    /// The script loses comments and indentation and nothing else.
    #[test]
    fn the_script_loses_only_comments_and_indentation() {
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
