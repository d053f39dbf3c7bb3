//! The client behind trusted proxies, as tables.

use super::*;

/// Trusts 10.0.0.0/8, fd00::/8 and Unix sockets.
fn trusted() -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    ["10.0.0.0/8", "fd00::/8", "unix"].iter().for_each(|text| trusted.add(text).unwrap());
    trusted
}

fn address(text: &str) -> ClientAddress {
    match text {
        "unix" => ClientAddress::Unix,
        text => text.parse::<std::net::IpAddr>().unwrap().into(),
    }
}

fn lines<'a>(texts: &'a [&str]) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    texts.iter().map(|text| text.as_bytes())
}

fn client(nearest: &str, forwarded_for: &[&str], forwarded: &[&str]) -> String {
    trusted().client(address(nearest), lines(forwarded_for), lines(forwarded)).to_string()
}

/// The first address from the right that is no trusted proxy is the client, whatever is left of it.
#[test]
fn the_first_untrusted_hop_is_the_client() {
    for (nearest, told, expected) in [
        ("10.0.0.1", &["192.0.2.7"][..], "192.0.2.7"),
        ("unix", &["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", &["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", &["6.6.6.6, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ("10.0.0.1", &["6.6.6.6,192.0.2.7 ,\t10.0.0.2,fd00::1"], "192.0.2.7"),
        ("10.0.0.1", &["6.6.6.6", "192.0.2.7", "10.0.0.2, 10.0.0.3"], "192.0.2.7"),
        ("10.0.0.1", &["10.9.9.9", "10.0.0.2"], "10.9.9.9"),
        ("10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", &["192.0.2.7, ::ffff:10.0.0.2"], "192.0.2.7"),
        // A peer that is not trusted is the client.
        ("192.0.2.8", &["6.6.6.6"], "192.0.2.8"),
        ("11.0.0.1", &["6.6.6.6, 10.0.0.1"], "11.0.0.1"),
        // A trusted proxy about whose client nobody says anything speaks for itself.
        ("10.0.0.1", &[], "10.0.0.1"),
        ("unix", &[], "unix"),
    ] {
        assert_eq!(client(nearest, told, &[]), expected, "{nearest} {told:?}");
    }
    let nobody = TrustedProxies::default();
    let named = nobody.client(ClientAddress::Unix, lines(&["6.6.6.6"]), lines(&[]));
    assert_eq!(named, ClientAddress::Unix);
}

/// Text that is no address ends the walk: the client is unnamed, and nothing left of it is
/// believed.
#[test]
fn garbage_names_nobody() {
    for garbage in [
        "",
        " ",
        "unknown",
        "_hidden",
        "localhost",
        "192.0.2",
        "192.0.2.7:",
        "192.0.2.7:x",
        "192.0.2.7:123456",
        "[2001:db8::1",
        "2001:db8::1]",
        "[192.0.2.7]",
        "[2001:db8::1]x",
        "fe80::1%eth0",
        "unix:",
        "\"192.0.2.7\"",
        "192.0.2.7 192.0.2.8",
        "0x7f.1",
        "010.1.1.1",
        "\u{661}92.0.2.7",
        "for=192.0.2.7",
    ] {
        let told = format!("6.6.6.6, {garbage}");
        assert_eq!(client("10.0.0.1", &[&told], &[]), "unnamed", "{told}");
        assert_eq!(client("unix", &[&told], &[]), "unnamed", "{told}");
        let told = format!("6.6.6.6, {garbage}, 10.0.0.2");
        assert_eq!(client("10.0.0.1", &[&told], &[]), "unnamed", "{told}");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", garbage], &[]), "unnamed", "{garbage}");
        // Behind an address that is no trusted proxy it is not looked at.
        let told = format!("{garbage}, 192.0.2.7");
        assert_eq!(client("10.0.0.1", &[&told], &[]), "192.0.2.7", "{told}");
    }
    let bytes: &[u8] = b"6.6.6.6, \xff";
    let named = trusted().client(address("10.0.0.1"), [bytes].into_iter(), lines(&[]));
    assert_eq!(named, ClientAddress::Unnamed);
}

#[test]
fn ports_and_brackets_are_no_part_of_an_address() {
    for (told, expected) in [
        ("192.0.2.7:4711", "192.0.2.7"),
        ("192.0.2.7:_port", "192.0.2.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
    ] {
        assert_eq!(client("10.0.0.1", &[told], &[]), expected, "{told}");
        let quoted = format!("for=\"{told}\"");
        assert_eq!(client("10.0.0.1", &[], &[&quoted]), expected, "{quoted}");
    }
}

/// `Forwarded` is read from the right, whatever quotes stand to the left.
#[test]
fn forwarded_elements_are_read_from_the_right() {
    for (told, expected) in [
        (&["for=192.0.2.7"][..], "192.0.2.7"),
        (&["For=192.0.2.7;proto=http;by=10.0.0.1"], "192.0.2.7"),
        (&["proto=http; FOR=\"[2001:db8::7]:4711\" ; by=_x"], "2001:db8::7"),
        (&["for=6.6.6.6, for=192.0.2.7;host=\"a,b;for=6.6.6.6\""], "192.0.2.7"),
        (&["for=6.6.6.6", "for=192.0.2.7, for=10.0.0.2"], "192.0.2.7"),
        (&[r#"for=192.0.2.7;host="\", for=6.6.6.6;x=\"""#], "192.0.2.7"),
        (&[r#"for=192.0.2.7;host="\\""#], "192.0.2.7"),
        // A client's open quotes reach no further than its own text.
        (&["for=\"6.6.6.6, for=192.0.2.7"], "192.0.2.7"),
        (&["x=\"", "for=192.0.2.7"], "192.0.2.7"),
        // A proxy that tells nothing about its client, or in two ways.
        (&["for=6.6.6.6, proto=http"], "unnamed"),
        (&["for=6.6.6.6, for=unknown"], "unnamed"),
        (&["for=6.6.6.6, for=_gazonk"], "unnamed"),
        (&["for=6.6.6.6, for=\"_gazonk:80\""], "unnamed"),
        (&["for=6.6.6.6, for=192.0.2.7;for=6.6.6.6"], "unnamed"),
        (&["for=6.6.6.6, for=\"192.0.2.7"], "unnamed"),
        (&["for=6.6.6.6, for=192.0.2.7\""], "unnamed"),
        (&["for=6.6.6.6, for = 192.0.2.7"], "unnamed"),
        (&["for=6.6.6.6, 192.0.2.7"], "unnamed"),
        (&["for=6.6.6.6, "], "unnamed"),
    ] {
        assert_eq!(client("10.0.0.1", &[], told), expected, "{told:?}");
    }
}

/// Two headers that disagree were not both written by proxies: neither counts.
#[test]
fn headers_that_disagree_do_not_count() {
    let both =
        |forwarded_for: &str, forwarded: &str| client("10.0.0.1", &[forwarded_for], &[forwarded]);
    assert_eq!(both("192.0.2.7", "for=192.0.2.7;proto=http"), "192.0.2.7");
    assert_eq!(both("6.6.6.6, 192.0.2.7", "for=192.0.2.7"), "192.0.2.7");
    assert_eq!(both("192.0.2.7", "for=6.6.6.6"), "unnamed");
    assert_eq!(both("6.6.6.6", "for=192.0.2.7"), "unnamed");
    assert_eq!(both("192.0.2.7", "garbage"), "unnamed");
    assert_eq!(both("", "for=192.0.2.7"), "unnamed");
    assert_eq!(both("10.0.0.2", "for=192.0.2.7"), "unnamed");
    assert_eq!(both("10.0.0.2", "for=10.0.0.2"), "10.0.0.2", "it speaks for itself");
}

/// The work is bounded, however many proxies are named.
#[test]
fn a_walk_has_a_bounded_number_of_hops() {
    let hops = |count: usize| {
        let proxies = ", 10.0.0.2".repeat(count - 1);
        client("10.0.0.1", &[&format!("192.0.2.7{proxies}")], &[])
    };
    assert_eq!(hops(FORWARDED_HOPS_MAX), "192.0.2.7");
    assert_eq!(hops(FORWARDED_HOPS_MAX + 1), "unnamed");
    assert_eq!(client("10.0.0.1", &[&",".repeat(60_000)], &[]), "unnamed");
    for hostile in ["\"", "\\\"", ";", "for=", ",\"\\"] {
        let long = hostile.repeat(60_000 / hostile.len());
        assert_eq!(client("10.0.0.1", &[], &[&long]), "unnamed", "{hostile}");
        let behind = format!("{long}, for=192.0.2.7");
        assert_eq!(client("10.0.0.1", &[], &[&behind]), "192.0.2.7", "{hostile}");
    }
}
