//! Properties of what proxies, and clients before them, say about clients.

use super::{ClientAddress, TrustedProxies};

/// The trusted proxy next to the server, and a client of it.
const PROXY: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [203, 0, 113, 9];

/// A client, whatever it writes, is known by the address that the nearest trusted proxy has seen. A
/// line of the input is a line of one of the headers: a byte that chooses, then its value.
pub(crate) fn forwarded(input: &[u8]) {
    let mut proxies = TrustedProxies::default();
    for network in ["10.0.0.0/8", "fd00::/8"] {
        proxies.add(network).expect("it is a network");
    }
    let [proxy, client] = [PROXY, CLIENT].map(|ip| ClientAddress::Ip(ip.into()));
    let lines = input.split(|&byte| byte == b'\n').filter_map(<[u8]>::split_first);
    let (of, parameters): (Vec<_>, Vec<_>) = lines.partition(|(choice, _)| **choice & 1 == 0);
    let own = |lines: Vec<(&u8, &[u8])>| lines.into_iter().map(|(_, line)| line.to_vec()).collect();
    let (of, parameters): (Vec<_>, Vec<_>) = (own(of), own(parameters));
    let find = |nearest, of: &[Vec<u8>], parameters: &[Vec<u8>]| {
        let [of, parameters] = [of, parameters].map(|lines| lines.iter().map(Vec::as_slice));
        proxies.client(nearest, of, parameters)
    };
    assert_eq!(find(client, &of, &parameters), client, "it is no proxy");
    let found = find(proxy, &of, &parameters);
    if let ClientAddress::Ip(ip) = found {
        assert_eq!(ip, ip.to_canonical());
    }
    assert_ne!(found, ClientAddress::Unix, "no text is a socket of this machine");
    // The address that the proxy adds is all that counts, in the last line or in one of its own.
    for (added, is_parameter) in [("203.0.113.9", false), ("for=203.0.113.9", true)] {
        for lines in with(if is_parameter { &parameters } else { &of }, added) {
            let found = match is_parameter {
                true => find(proxy, &[], &lines),
                false => find(proxy, &lines, &[]),
            };
            assert_eq!(found, client, "{lines:?}");
        }
    }
    // A client that the proxy cannot name has not what the proxy may.
    for lines in with(&of, "unknown") {
        assert_eq!(find(proxy, &lines, &[]), ClientAddress::Unnamed, "{lines:?}");
    }
    // Where the proxy writes one of the headers, the client's own other counts nowhere.
    for lines in with(&of, "203.0.113.9") {
        let found = find(proxy, &lines, &parameters);
        assert!([client, ClientAddress::Unnamed].contains(&found), "{found}");
    }
}

/// The lines with `added` to the last of them, and in a further one.
fn with(lines: &[Vec<u8>], added: &str) -> [Vec<Vec<u8>>; 2] {
    let (mut longer, mut more) = (lines.to_vec(), lines.to_vec());
    match longer.last_mut() {
        Some(last) => last.extend(format!(", {added}").into_bytes()),
        None => longer.push(added.into()),
    }
    more.push(added.into());
    [longer, more]
}
