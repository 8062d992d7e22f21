//! The PROXY protocol, versions 1 and 2: what a proxy in front says of the client whose connection it passes on.
//!
//! After `doc/proxy-protocol.txt` of `HAProxy`. Pure: bytes in, a verdict out.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, its end included.
const LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const FIXED: usize = 16;
/// The addresses and what else a header of version 2 may hold. Certificates of clients are the longest in use.
const LONGEST: usize = 4096;

/// What the bytes read so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header: more must come.
    Partial,
    /// A header of this many bytes. Without a client it speaks of the connection itself: a check by the proxy, or a
    /// client that has no address of the internet.
    Header { length: usize, client: Option<SocketAddr> },
    /// No header, or a broken one.
    Malformed(&'static str),
}

/// Reads what a connection begins with. Never asks for more bytes than the longest header has.
pub fn parse(bytes: &[u8]) -> Parsed {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes.is_empty() {
        Parsed::Partial
    } else if bytes[..common] == SIGNATURE[..common] {
        if bytes.len() < FIXED { Parsed::Partial } else { binary(bytes) }
    } else {
        line(bytes)
    }
}

fn line(bytes: &[u8]) -> Parsed {
    const WORD: &[u8] = b"PROXY ";
    let common = bytes.len().min(WORD.len());
    if bytes[..common] != WORD[..common] {
        return Parsed::Malformed("it does not begin with a PROXY header");
    }
    let within = &bytes[..bytes.len().min(LINE)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE {
            Parsed::Partial
        } else {
            Parsed::Malformed("the line of its PROXY header does not end")
        };
    };
    let Ok(text) = std::str::from_utf8(&bytes[WORD.len()..end]) else {
        return Parsed::Malformed("its PROXY header is not text");
    };
    let length = end + 2;
    let words: Vec<&str> = text.split(' ').collect();
    match *words.as_slice() {
        ["UNKNOWN", ..] => Parsed::Header { length, client: None },
        ["TCP4" | "TCP6", source, destination, from, to] => {
            let v6 = words[0] == "TCP6";
            let client = address(source, from, v6).zip(address(destination, to, v6));
            match client {
                Some((client, _)) => Parsed::Header { length, client: Some(client) },
                None => Parsed::Malformed("its PROXY header holds no addresses"),
            }
        }
        _ => Parsed::Malformed("its PROXY header is of no known kind"),
    }
}

fn address(host: &str, port: &str, v6: bool) -> Option<SocketAddr> {
    let ip = if v6 {
        host.parse::<Ipv6Addr>().ok().map(IpAddr::V6)?
    } else {
        host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)?
    };
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits)?;
    Some(SocketAddr::new(ip, port))
}

/// `bytes` holds at least the fixed part.
fn binary(bytes: &[u8]) -> Parsed {
    let declared = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 {
        return Parsed::Malformed("its PROXY header is of an unknown version");
    }
    if declared > LONGEST {
        return Parsed::Malformed("its PROXY header is longer than 4 KiB");
    }
    let length = FIXED + declared;
    let Some(body) = bytes.get(FIXED..length) else { return Parsed::Partial };
    let own = Parsed::Header { length, client: None };
    match bytes[12] & 0xf {
        0 => return own,
        1 => {}
        _ => return Parsed::Malformed("its PROXY header has an unknown command"),
    }
    let short = Parsed::Malformed("its PROXY header is too short for its addresses");
    let client = match bytes[13] {
        // Over TCP or UDP: source, destination, and both ports.
        0x11 | 0x12 => {
            let (Some(source), Some(port)) = (body.first_chunk::<4>(), body.get(8..12)) else {
                return short;
            };
            (IpAddr::from(*source), [port[0], port[1]])
        }
        0x21 | 0x22 => {
            let (Some(source), Some(port)) = (body.first_chunk::<16>(), body.get(32..36)) else {
                return short;
            };
            (IpAddr::from(*source), [port[0], port[1]])
        }
        // Unix sockets, and what was not specified.
        0x00 | 0x31 | 0x32 => return own,
        _ => return Parsed::Malformed("its PROXY header has an unknown family"),
    };
    let (ip, port) = client;
    Parsed::Header { length, client: Some(SocketAddr::new(ip, u16::from_be_bytes(port))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(length: usize, client: &str) -> Parsed {
        Parsed::Header { length, client: Some(client.parse().unwrap()) }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const BODY4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

    #[test]
    fn a_line_names_the_client() {
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(line), header(40, "192.0.2.1:8080"));
        let line = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(parse(line), header(line.len(), "[2001:db8::1]:1"));
    }

    #[test]
    fn an_unknown_client_has_no_address() {
        for line in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n"] {
            assert_eq!(parse(line), Parsed::Header { length: line.len(), client: None });
        }
        for (command, family) in [(0, 0x11), (1, 0x00), (1, 0x31)] {
            let bytes = v2(command, family, &BODY4);
            assert_eq!(parse(&bytes), Parsed::Header { length: 28, client: None });
        }
    }

    #[test]
    fn version_two_names_the_client_and_may_hold_more() {
        assert_eq!(parse(&v2(1, 0x11, &BODY4)), header(28, "192.0.2.1:8080"));
        let mut longer = v2(1, 0x11, &[&BODY4[..], &[3, 0, 1, 0]].concat());
        longer.extend(b"GET /");
        assert_eq!(parse(&longer), header(32, "192.0.2.1:8080"));
        let mut six = [0; 36];
        (six[15], six[33]) = (1, 9);
        assert_eq!(parse(&v2(1, 0x21, &six)), header(52, "[::1]:9"));
    }

    #[test]
    fn what_is_no_header_is_malformed() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
            b"PROXY TCP4 ::1 ::1 1 1\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
            b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
            b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
            &long,
            &v2(2, 0x11, &BODY4),
            &v2(1, 0x44, &BODY4),
            &v2(1, 0x11, &BODY4[..11]),
            &v2(1, 0x11, &[0; LONGEST + 1]),
        ] {
            assert!(matches!(parse(bad), Parsed::Malformed(_)), "{bad:?}");
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_partial() {
        let line = b"PROXY TCP4 192.0.2.1 10.0.0.1 8080 443\r\n".to_vec();
        for whole in [line, v2(1, 0x11, &BODY4)] {
            for end in 0..whole.len() {
                assert_eq!(parse(&whole[..end]), Parsed::Partial, "{end}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_the_header_is_within_them(
            begin in prop_oneof![Just(vec![]), Just(b"PROXY ".to_vec()), Just(SIGNATURE.to_vec())],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [begin, rest].concat();
            match parse(&bytes) {
                Parsed::Header { length, .. } => prop_assert!(length <= bytes.len()),
                Parsed::Partial => prop_assert!(bytes.len() < FIXED + LONGEST),
                Parsed::Malformed(_) => {}
            }
        }

        #[test]
        fn any_address_comes_back(ip: IpAddr, port: u16, more in proptest::collection::vec(any::<u8>(), 0..9)) {
            let client = SocketAddr::new(ip, port);
            let family = if ip.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {ip} {ip} {port} 1\r\n");
            let bytes = [line.as_bytes(), &more].concat();
            let expected = Parsed::Header { length: line.len(), client: Some(client) };
            prop_assert_eq!(parse(&bytes), expected);
        }
    }
}
