//! The tokens that a request shows elsewhere than in `Authorization`: where browsers can put them.
//!
//! A page can set no header in a handshake, so a token may come as an entry of the subprotocols,
//! as `?token=` or in a cookie. A browser sends cookies by itself, also for pages of others: one
//! counts only if the page is known to be of a listed origin, or of this server's own. Nothing
//! here judges a token, and nothing may ever repeat one.

use std::borrow::Cow;

use http::{HeaderMap, header};

use crate::{
    http::{access::Rules, origins::Origins},
    limits::TOKENS_OFFERED_MAX,
    ws::handshake,
};

/// The tokens of one request, in the order in which they are tried.
pub(in crate::http) fn of_browser<'a>(
    rules: &Rules,
    origins: &Origins,
    headers: &'a HeaderMap,
    query_token: Option<&'a Cow<'_, str>>,
) -> Vec<&'a [u8]> {
    let offered = handshake::offered_tokens(headers);
    let mut tokens: Vec<_> = offered.take(TOKENS_OFFERED_MAX).collect();
    tokens.extend(query_token.filter(|_| rules.query_tokens).map(|token| token.as_bytes()));
    tokens.extend(of_page(rules, origins, headers));
    tokens
}

/// The token in a cookie, if the request is one of a page that is known.
pub(in crate::http) fn of_page<'a>(
    rules: &Rules,
    origins: &Origins,
    headers: &'a HeaderMap,
) -> Option<&'a [u8]> {
    let token = cookie(headers, rules.token_cookie.as_ref()?)?;
    let is_known_page = origins.listed_sender(headers).is_some() || is_same_origin(headers);
    is_known_page.then_some(token)
}

/// Whether the browser says that the page is this server's own. A request without that header is
/// no browser's, or an old one's, and its page may be anybody's.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.next().is_some_and(|site| site == "same-origin") && sites.next().is_none()
}

/// The value of the first cookie called `name` (RFC 6265 §4.2).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let values = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    });
    let quoted = |value: &'a [u8]| value.strip_prefix(b"\"")?.strip_suffix(b"\"");
    values.map(|value| quoted(value).unwrap_or(value)).find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::http::origins::Origin;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        });
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        headers
    }

    fn shown(rules: &Rules, lines: &[(&'static str, &str)], query: Option<&str>) -> Vec<String> {
        let origins = Origins::listed([Origin::parse("https://app.example").unwrap()]);
        let headers = headers(lines);
        let query = query.map(Cow::Borrowed);
        let tokens = of_browser(rules, &origins, &headers, query.as_ref());
        tokens.iter().map(|token| String::from_utf8(token.to_vec()).unwrap()).collect()
    }

    #[test]
    fn tokens_are_found_in_every_place() {
        let rules = Rules { token_cookie: Some("jwt".into()), ..Rules::default() };
        let page = ("origin", "https://app.example");
        let offer = ("sec-websocket-protocol", "wsbcast.v1, wsbcast.token.p.p.p");
        let cookies = ("cookie", "a=b; jwt=c.c.c");
        let all = shown(&rules, &[page, offer, cookies], Some("q.q.q"));
        assert_eq!(all, ["p.p.p", "q.q.q", "c.c.c"]);
        let many = ("sec-websocket-protocol", "wsbcast.token.a,wsbcast.token.b,wsbcast.token.c");
        assert_eq!(shown(&rules, &[page, many, cookies], None), ["a", "b", "c.c.c"], "a bound");
        let closed = Rules { query_tokens: false, ..rules };
        assert_eq!(shown(&closed, &[offer], Some("q.q.q")), ["p.p.p"]);
        assert!(shown(&Rules::default(), &[page, cookies], None).is_empty());
    }

    /// A cookie counts only for a page that is known to be one of ours.
    #[test]
    fn a_cookie_of_another_page_does_not_count() {
        let rules = Rules { token_cookie: Some("jwt".into()), ..Rules::default() };
        let cookies = ("cookie", "jwt=\"c.c.c\"");
        let counts = |lines: &[(&'static str, &str)]| {
            let lines = [lines, &[cookies]].concat();
            let headers = headers(&lines);
            let origins = Origins::listed([Origin::parse("https://app.example").unwrap()]);
            let counts = shown(&rules, &lines, None) == ["c.c.c"];
            assert_eq!(of_page(&rules, &origins, &headers).is_some(), counts);
            counts
        };
        assert!(counts(&[("origin", "https://app.example")]));
        assert!(counts(&[("sec-fetch-site", "same-origin")]));
        for lines in [
            &[][..],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "https://app.example"), ("origin", "https://app.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!counts(lines), "{lines:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let value = |line: &str| {
            let headers = headers(&[("cookie", line)]);
            cookie(&headers, "jwt").map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        for (line, expected) in [
            ("jwt=a", Some("a")),
            ("x=1;jwt=a;y=2", Some("a")),
            ("xjwt=b; jwt=a", Some("a")),
            ("jwt2=b", None),
            ("JWT=b", None),
            ("jwt=", None),
            ("jwt", None),
        ] {
            assert_eq!(value(line).as_deref(), expected, "{line}");
        }
    }
}
