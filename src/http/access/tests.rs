//! The rules, as tables.

use http::HeaderValue;

use super::*;

/// Judges a request with these header lines and nothing else.
fn judge(rules: &Rules, right: Right, peer: &str, lines: &[&str]) -> Verdict {
    judge_of(Owner::Us, Version::HTTP_11, rules, right, peer, lines)
}

fn judge_of(
    owner: Owner,
    version: Version,
    rules: &Rules,
    right: Right,
    peer: &str,
    lines: &[&str],
) -> Verdict {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let uri = Uri::from_static("/broadcast");
    let peer = (peer.parse::<IpAddr>().unwrap(), 9).into();
    let requester = requester(peer, owner, version, &uri, &headers);
    rules.judge(right, &requester)
}

/// A request of a client that is connected directly.
fn requester<'a>(
    peer: std::net::SocketAddr,
    owner: Owner,
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Requester<'a> {
    Requester {
        peer: peer.into(),
        client: peer.into(),
        owner,
        version,
        uri,
        headers,
        other_tokens: &[],
    }
}

#[test]
fn without_a_token_only_programs_on_this_machine_may() {
    #[rustfmt::skip]
    let allowed: &[(&str, &[&str])] = &[
        ("127.0.0.1", &["Host: localhost"]),
        ("127.8.9.1", &["Host: LocalHost:8000"]),
        ("::1", &["Host: [::1]:8000"]),
        ("::ffff:127.0.0.1", &["Host: 127.1.2.3:1"]),
        ("::1", &["Host: [::1]", "Origin: http://[::1]"]),
        ("127.0.0.1", &["Host: localhost:8000", "Origin: http://localhost:8000"]),
        ("127.0.0.1", &["Host: localhost", "Origin: http://localhost:80"]),
        ("127.0.0.1", &["Host: localhost:443", "Origin: https://localhost"]),
        ("127.0.0.1", &["Host: localhost", "Referer: http://localhost/a/page"]),
        ("127.0.0.1", &["Host: localhost", "X-Request-Id: 1", "Traceparent: 00-1-1-00"]),
        ("127.0.0.1", &["Host: localhost", "Sec-Fetch-Site: none"]),
        ("127.0.0.1", &["Host: localhost", "Sec-Fetch-Site: same-origin"]),
    ];
    #[rustfmt::skip]
    let forbidden: &[(&str, &[&str])] = &[
        ("192.168.0.7", &["Host: localhost"]),
        ("2001:db8::1", &["Host: localhost"]),
        ("127.0.0.1", &[]),
        ("127.0.0.1", &["Host: "]),
        ("127.0.0.1", &["Host: localhost", "Host: localhost"]),
        ("127.0.0.1", &["Host: evil.example"]),
        ("127.0.0.1", &["Host: localhost.evil.example"]),
        ("127.0.0.1", &["Host: 127.0.0.1.evil.example"]),
        ("127.0.0.1", &["Host: localhost:80:80"]),
        ("127.0.0.1", &["Host: localhost:x"]),
        ("127.0.0.1", &["Host: x@localhost"]),
        ("127.0.0.1", &["Host: [::1]x"]),
        ("127.0.0.1", &["Host: 128.0.0.1"]),
        ("127.0.0.1", &["Host: localhost", "Referer: http://evil.example/"]),
        ("127.0.0.1", &["Host: localhost", "Referer: null"]),
        ("127.0.0.1", &["Host: localhost", "Sec-Fetch-Site: cross-site"]),
        ("127.0.0.1", &["Host: localhost", "Sec-Fetch-Site: same-site"]),
        ("127.0.0.1", &["Host: localhost", "Sec-Fetch-Site: none", "Sec-Fetch-Site: x"]),
        ("127.0.0.1", &["Host: localhost", "Origin: http://localhost/"]),
        ("127.0.0.1", &["Host: localhost", "Origin: null"]),
        ("127.0.0.1", &["Host: localhost", "Origin: http://evil.example"]),
        ("127.0.0.1", &["Host: localhost:8000", "Origin: http://localhost:3000"]),
        ("127.0.0.1", &["Host: localhost:8000", "Origin: http://127.0.0.1:8000"]),
        ("127.0.0.1", &["Host: localhost", "Origin: ftp://localhost"]),
        ("127.0.0.1", &["Host: localhost", "Origin: http://localhost", "Origin: null"]),
    ];
    let rules = Rules::default();
    for right in [Right::Publish, Right::Administer, Right::LookInPublic] {
        for (peer, lines) in allowed {
            assert_eq!(judge(&rules, right, peer, lines), Verdict::Allowed, "{lines:?}");
        }
        for (peer, lines) in forbidden {
            assert_eq!(judge(&rules, right, peer, lines), Verdict::Forbidden, "{lines:?}");
        }
    }
}

#[test]
fn clients_behind_a_proxy_are_not_local() {
    let rules = Rules::default();
    let judge = |name: &str| {
        let header = format!("{name}: 192.0.2.1");
        judge(&rules, Right::Publish, "127.0.0.1", &["Host: localhost", &header])
    };
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "Via",
        "X-Real-IP",
        "X-Forwarded",
        "CF-Ray",
        "X-Original-Host",
        "Forwarded-For",
        "X-ProxyUser-Ip",
        "WL-Proxy-Client-IP",
        "Client-IP",
        "X-Azure-ClientIP",
        "X-Appengine-User-Ip",
        "Fly-Client-IP",
        "X-Vercel-Forwarded-For",
        "X-Nginx-Proxy",
        "Ali-CDN-Real-IP",
        "x_forwarded_for",
        "Tailscale-User-Login",
        "Ngrok-Trace-Id",
        "Cloudfront-Viewer-Address",
        "Remote-Addr",
        "Proxy-Connection",
        "CDN-Loop",
        "True-Client-IP",
        "X-Cluster-Client-Ip",
        "X-Cloud-Trace-Context",
        "X-Amzn-Trace-Id",
        "X-Amz-Cf-Id",
        "X-Akamai-Edgescape",
        "X-Azure-FDID",
        "X-FD-HealthProbe",
        "X-Goog-Iap-Jwt-Assertion",
        "X-Rewrite-URL",
        "X-Request-Start",
        "X-Auth-Request-User",
        "X-Varnish",
        "Incap-Client-IP",
        "X-NF-Request-ID",
        "Rndr-Id",
        "Surrogate-Capability",
        "Max-Forwards",
        "X-Arr-Log-Id",
    ] {
        assert_eq!(judge(name), Verdict::Forbidden, "{name}");
    }
    for name in ["X-Request-Id", "Traceparent", "User-Agent", "X-Requested-With", "X-Api-Key"] {
        assert_eq!(judge(name), Verdict::Allowed, "{name}");
    }
}

#[test]
fn with_a_token_whoever_has_it_may_and_nobody_else() {
    use Verdict::{Allowed, Unauthorized};
    let rules = |insecure_publish| Rules {
        tokens: vec!["alpha".into(), "beta".into()].into(),
        insecure_publish,
        ..Rules::default()
    };
    let only_insecure = [Unauthorized, Allowed, Unauthorized, Unauthorized];
    let nothing = [Unauthorized; 4];
    let (local, foreign) = ("127.0.0.1", "203.0.113.9");
    #[rustfmt::skip]
    let table = [
        (foreign, "Authorization: Bearer alpha", [Allowed, Allowed, Allowed, Allowed]),
        (foreign, "Authorization: bEARER  beta", [Allowed, Allowed, Allowed, Allowed]),
        (foreign, "Authorization: Bearer alph", nothing),
        (foreign, "Authorization: Bearer ", nothing),
        (local, "Authorization: Bearer alph", nothing),
        (foreign, "Authorization: Basic alpha", only_insecure),
        (foreign, "Authorization: Bearer", only_insecure),
        (local, "Accept: */*", [Unauthorized, Allowed, Unauthorized, Allowed]),
    ];
    for (peer, line, expected) in table {
        let lines = [line, "Host: localhost"];
        let given = [
            judge(&rules(false), Right::Publish, peer, &lines),
            judge(&rules(true), Right::Publish, peer, &lines),
            judge(&rules(true), Right::Administer, peer, &lines),
            judge(&rules(true), Right::LookInPublic, peer, &lines),
        ];
        assert_eq!(given, expected, "{peer} {line}");
    }
}

/// A token that is shown where tokens count decides, also for local programs: none of these does.
#[test]
fn a_wrong_token_is_never_forgiven() {
    use Right::{Administer, AdministerInPublic, Look, LookInPublic, Publish};
    let keys = |takes_tokens| Rules { takes_tokens, insecure_publish: true, ..Rules::default() };
    let set = Rules { tokens: vec!["t".into()].into(), ..keys(false) };
    let wrong = ["Host: localhost", "Authorization: Bearer wrong"];
    for right in [Publish, Administer, AdministerInPublic, Look, LookInPublic] {
        for rules in [&set, &keys(true)] {
            let verdict = judge(rules, right, "127.0.0.1", &wrong);
            assert_eq!(verdict, Verdict::Unauthorized, "{right:?}");
        }
        // Where none count, it is like any other header.
        let [with, without] =
            [&wrong[..], &wrong[..1]].map(|lines| judge(&keys(false), right, "127.0.0.1", lines));
        assert_eq!(with, without, "{right:?}");
    }
}

#[test]
fn insecure_opens_publishing_and_nothing_else() {
    let rules = Rules { tokens: vec![].into(), insecure_publish: true, ..Rules::default() };
    let foreign = ["Host: example.org", "Origin: https://evil.example"];
    let judge = |right| judge(&rules, right, "203.0.113.9", &foreign);
    assert_eq!(judge(Right::Publish), Verdict::Allowed);
    assert_eq!(judge(Right::Administer), Verdict::Forbidden);
    assert_eq!(judge(Right::LookInPublic), Verdict::Forbidden);
}

/// Keys belong to a publisher that shows a token or is a program of this machine.
#[test]
fn keys_belong_to_a_token_or_this_machine() {
    use PublisherClass::{Anonymous, Api};
    let with_token =
        Rules { tokens: vec!["alpha".into()].into(), insecure_publish: true, ..Rules::default() };
    let open = Rules { tokens: vec![].into(), insecure_publish: true, ..Rules::default() };
    let (local, foreign) = ("127.0.0.1", "203.0.113.9");
    #[rustfmt::skip]
    let table: &[(&Rules, &str, &[&str], PublisherClass, PublisherClass)] = &[
        (&with_token, foreign, &["Authorization: Bearer alpha"], Api, Api),
        (&with_token, foreign, &["Authorization: Bearer alpha", "Origin: http://x"], Api, Api),
        (&with_token, foreign, &["Authorization: Bearer beta"], Anonymous, Anonymous),
        (&with_token, foreign, &[], Anonymous, Anonymous),
        (&with_token, local, &["Host: localhost"], Anonymous, Anonymous),
        (&open, local, &["Host: localhost"], Api, Anonymous),
        (&open, local, &["Host: localhost", "Authorization: Bearer x"], Api, Anonymous),
        (&open, local, &["Host: localhost", "Origin: http://localhost"], Anonymous, Anonymous),
        (&open, local, &["Host: localhost", "Sec-Fetch-Mode: cors"], Anonymous, Anonymous),
        (&open, local, &["Host: localhost", "X-Forwarded-For: 1.2.3.4"], Anonymous, Anonymous),
        (&open, foreign, &["Host: localhost"], Anonymous, Anonymous),
    ];
    for (rules, peer, lines, published, client) in table {
        let mut headers = HeaderMap::new();
        for line in *lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let uri = Uri::from_static("/broadcast");
        let peer = (peer.parse::<IpAddr>().unwrap(), 9).into();
        let (owner, version) = (Owner::Us, Version::HTTP_11);
        let requester = requester(peer, owner, version, &uri, &headers);
        let stranger = Requester { owner: Owner::Stranger, ..requester };
        if rules.tokens.is_empty() {
            assert_eq!(rules.principal(&stranger), Principal::Anonymous, "{lines:?}");
        }
        let given = (rules.principal(&requester).class(), rules.class_of_client(&requester));
        assert_eq!(given, (*published, *client), "{peer} {lines:?}");
    }
}

#[test]
fn an_absolute_target_must_name_the_same_host() {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("localhost:8000"));
    let peer = (Ipv4Addr::LOCALHOST, 9).into();
    for (target, expected) in
        [("http://localhost:8000/broadcast", true), ("http://evil.example/broadcast", false)]
    {
        let uri = Uri::from_static(target);
        let (owner, version) = (Owner::Us, Version::HTTP_11);
        let requester = requester(peer, owner, version, &uri, &headers);
        assert_eq!(requester.is_local(Right::Publish), expected, "{target}");
    }
}

#[test]
fn tokens_stay_out_of_debug_output() {
    let rules =
        Rules { tokens: vec!["hush".into()].into(), insecure_publish: false, ..Rules::default() };
    assert!(!format!("{rules:?}").contains("hush"));
}

/// A connection of another user is not local, whatever its headers say.
#[test]
fn another_users_connection_is_never_local() {
    let rules = Rules::default();
    let judge = |owner, right| {
        judge_of(owner, Version::HTTP_11, &rules, right, "127.0.0.1", &["Host: localhost"])
    };
    for right in [Right::Publish, Right::Administer, Right::LookInPublic] {
        assert_eq!(judge(Owner::Us, right), Verdict::Allowed);
        assert_eq!(judge(Owner::Stranger, right), Verdict::Forbidden);
    }
    for owner in [Owner::Us, Owner::Stranger, Owner::Unknowable] {
        assert_eq!(judge(owner, Right::AdministerInPublic), Verdict::NotHere);
    }
    let token =
        Rules { tokens: vec!["t".into()].into(), insecure_publish: false, ..Rules::default() };
    let bearer = ["Host: localhost", "Authorization: Bearer t"];
    for right in [Right::Publish, Right::AdministerInPublic, Right::LookInPublic] {
        let with = judge_of(Owner::Stranger, Version::HTTP_11, &token, right, "127.0.0.1", &bearer);
        assert_eq!(with, Verdict::Allowed, "{right:?}: with a token nobody asks who it is");
    }
}

/// Headers open publishing, and nothing else, where the system cannot be asked.
#[test]
fn headers_decide_where_the_system_cannot_be_asked() {
    let judge = |version, right, lines: &[&str]| {
        let lines = [&["Host: localhost:8000"], lines].concat();
        judge_of(Owner::Unknowable, version, &Rules::default(), right, "::1", &lines)
    };
    #[rustfmt::skip]
    let allowed: &[&[&str]] = &[
        &[],
        &["User-Agent: curl/8.5", "Accept: */*"],
        &["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Cookie: a=b",
            "Origin: http://localhost:8000", "Referer: http://localhost:8000/livez"],
    ];
    #[rustfmt::skip]
    let forbidden: &[&[&str]] = &[
        &["Via: 1.1 proxy"],
        &["Origin: http://localhost:3000"],
        &["Referer: http://evil.example/"],
        &["Referer: http://localhost:8000.evil.example/"],
        &["Cookie: a=b"],
        &["Sec-Fetch-Mode: navigate"],
        &["Sec-Ch-Ua: x"],
    ];
    for lines in allowed {
        assert_eq!(judge(Version::HTTP_11, Right::Publish, lines), Verdict::Allowed, "{lines:?}");
        assert_eq!(judge(Version::HTTP_10, Right::Publish, lines), Verdict::Forbidden);
        for right in [Right::Administer, Right::LookInPublic] {
            assert_eq!(judge(Version::HTTP_11, right, lines), Verdict::Forbidden, "{right:?}");
        }
    }
    for lines in forbidden {
        assert_eq!(judge(Version::HTTP_11, Right::Publish, lines), Verdict::Forbidden, "{lines:?}");
    }
}

/// An admin listener is looked at under names that no page can have.
#[test]
fn an_admin_listener_has_private_names() {
    let none = Rules::default();
    let set =
        Rules { tokens: vec!["t".into()].into(), insecure_publish: false, ..Rules::default() };
    for host in [
        "127.0.0.1:9000",
        "10.1.2.3:9000",
        "[2001:db8::1]:9000",
        "localhost",
        "wsbcast:9000",
        "node_7",
        "wsbcast.prod.svc:9000",
        "wsbcast.prod.svc.cluster.local:9000",
        "push.internal",
    ] {
        let line = format!("Host: {host}");
        for rules in [&none, &set] {
            assert_eq!(judge(rules, Right::Look, "10.9.8.7", &[&line]), Verdict::Allowed, "{host}");
        }
    }
    assert_eq!(judge(&none, Right::Look, "10.9.8.7", &[]), Verdict::Allowed, "HTTP/1.0");
    for host in [
        "evil.example",
        "evil.example:9000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "svc.evil.example",
        "x.local",
        "user@localhost",
        "[::1].evil.example",
        "localhost:9000:1",
        "",
    ] {
        let line = format!("Host: {host}");
        for rules in [&none, &set] {
            let verdict = judge(rules, Right::Look, "127.0.0.1", &[&line]);
            assert_eq!(verdict, Verdict::ForeignName, "{host}");
        }
        let bearer = [&*line, "Authorization: Bearer t"];
        assert_eq!(judge(&set, Right::Look, "127.0.0.1", &bearer), Verdict::Allowed, "{host}");
    }
    let two = ["Host: localhost", "Host: localhost"];
    assert_eq!(judge(&none, Right::Look, "127.0.0.1", &two), Verdict::ForeignName);
}
