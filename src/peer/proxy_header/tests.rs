//! Headers whole, in pieces, and damaged.

use super::*;

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, block].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0, 80];

fn ipv6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let destination: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
    [&source.octets()[..], &destination.octets(), &[0x12, 0x67, 0, 80]].concat()
}

fn client(text: &str) -> Announced {
    announced(text.parse().unwrap())
}

fn good() -> Vec<(Vec<u8>, Announced)> {
    let more = |block: &[u8]| [block, &[0x04, 0, 3, 1, 2, 3], &[0xff; 600]].concat();
    let unix = [0; 216];
    let line = |text: &str| text.as_bytes().to_vec();
    vec![
        (v2(0x21, 0x11, &IPV4), client("192.0.2.7")),
        (v2(0x21, 0x12, &IPV4), client("192.0.2.7")),
        (v2(0x21, 0x11, &more(&IPV4)), client("192.0.2.7")),
        (v2(0x21, 0x21, &ipv6()), client("2001:db8::7")),
        (v2(0x21, 0x22, &more(&ipv6())), client("2001:db8::7")),
        (v2(0x21, 0x00, &[]), Announced::Unknown),
        (v2(0x21, 0x00, &[1, 2, 3]), Announced::Unknown),
        (v2(0x21, 0x31, &unix), Announced::Unknown),
        // LOCAL: the rest is discarded, whatever it is.
        (v2(0x20, 0x00, &[]), Announced::Nothing),
        (v2(0x20, 0x11, &[]), Announced::Nothing),
        (v2(0x20, 0x11, &IPV4), Announced::Nothing),
        (v2(0x20, 0xee, &[9; 40]), Announced::Nothing),
        (LOCAL_HEADER.to_vec(), Announced::Nothing),
        (line("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"), client("192.0.2.7")),
        (line("PROXY TCP6 2001:db8::7 ::1 65535 0\r\n"), client("2001:db8::7")),
        (line("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 1\r\n"), client("192.0.2.7")),
        (line("PROXY UNKNOWN\r\n"), Announced::Unknown),
        (line("PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n"), Announced::Unknown),
    ]
}

/// A header is read whole, and each beginning of it is no more than that.
#[test]
fn a_header_is_read_whatever_pieces_it_comes_in() {
    for (header, announced) in good() {
        let length = header.len();
        for end in 0..length {
            assert_eq!(read(&header[..end]), Ok(ProxyHeader::Unfinished), "{header:?} {end}");
        }
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for rest in [&b""[..], b"\r", request, &header] {
            let bytes = [&header[..], rest].concat();
            assert_eq!(read(&bytes), Ok(ProxyHeader::Finished { length, announced }), "{bytes:?}");
        }
    }
}

/// Bytes that are no header are known as such at the first wrong one.
#[test]
fn another_beginning_is_no_header_at_once() {
    for bytes in
        [&b"G"[..], b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PROXYx", b"PROXY\n", b"\r\n\r\n\r"]
    {
        assert_eq!(read(bytes), Err(NoProxyHeader::NoSignature), "{bytes:?}");
    }
}

#[test]
fn a_damaged_header_is_refused() {
    for header in [
        v2(0x11, 0x11, &IPV4),
        v2(0x22, 0x11, &IPV4),
        v2(0x21, 0x11, &IPV4[..11]),
        v2(0x21, 0x21, &IPV4),
        v2(0x21, 0x21, &ipv6()[..35]),
        v2(0x21, 0x13, &IPV4),
        v2(0x21, 0x41, &IPV4),
    ] {
        assert_eq!(read(&header), Err(NoProxyHeader::Malformed), "{header:?}");
    }
    for line in [
        "TCP4 192.0.2.7 10.0.0.1 4711 80\n",
        "TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        "TCP4 192.0.2.7 10.0.0.1 4711 80 \r\n",
        "TCP4 192.0.2.7 10.0.0.1 4711 65536\r\n",
        "TCP4 192.0.2.7 10.0.0.1 +4711 80\r\n",
        "TCP4 192.0.2.7 10.0.0.1 4711 \r\n",
        "TCP4  192.0.2.7 10.0.0.1 4711 80\r\n",
        "TCP4 ::1 ::1 4711 80\r\n",
        "TCP6 192.0.2.7 10.0.0.1 4711 80\r\n",
        "tcp4 192.0.2.7 10.0.0.1 4711 80\r\n",
        "UDP4 192.0.2.7 10.0.0.1 4711 80\r\n",
        "UNKNOWNS\r\n",
        "\r\n",
    ] {
        let header = format!("PROXY {line}");
        assert_eq!(read(header.as_bytes()), Err(NoProxyHeader::Malformed), "{header:?}");
    }
}

#[test]
fn an_endless_header_is_refused() {
    let line = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
    assert_eq!(read(line.as_bytes()), Err(NoProxyHeader::TooLong));
    let longest = PROXY_HEADER_BYTES_MAX - V2_FIXED_BYTES;
    let with = |bytes: usize| v2(0x21, 0x11, &[&IPV4[..], &vec![0; bytes - 12]].concat());
    assert!(matches!(read(&with(longest)), Ok(ProxyHeader::Finished { .. })));
    let long = with(longest + 1);
    assert_eq!(read(&long[..V2_FIXED_BYTES]), Err(NoProxyHeader::TooLong), "without its block");
}
