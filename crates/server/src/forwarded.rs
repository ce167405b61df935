//! Finds the address that counts for limits: the peer's, or the one that trusted proxies report in `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the address of the client. Each proxy appends the address of its peer, so the entries are read from the right, as
/// long as the one who wrote them is trusted.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(&address));
    let mut address = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while is_trusted(address) {
        // What is not an address hides the client: then the proxy that wrote it counts.
        match entries.next().and_then(read) {
            Some(before) => address = before,
            None => break,
        }
    }
    address
}

/// Reads an address as proxies write it: with or without a port, an IPv6 address with or without brackets and zone.
fn read(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim().trim_matches('"');
    let without_zone = || {
        let (address, _) = entry.split_once('%')?;
        address.trim_start_matches('[').parse().ok()
    };
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: Option<IpAddr> = entry.parse().ok().or_else(in_brackets);
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let address = address.or_else(with_port).or_else(without_zone);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().expect("a value"));
        }
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|range| range.parse().expect("a range"))
            .collect();
        client_address(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        for (entry, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:50001", "203.0.113.7"),
            ("  203.0.113.7 ", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:443", "fe80::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
        ] {
            assert_eq!(
                seen("10.0.0.1", &[entry], &["10.0.0.0/8"]),
                expected,
                "{entry}"
            );
        }
        for nonsense in ["", "unknown", "_hidden", "203.0.113", "203.0.113.7:", "a:b"] {
            assert_eq!(
                seen("10.0.0.1", &[nonsense], &["10.0.0.0/8"]),
                "10.0.0.1",
                "{nonsense}"
            );
        }
    }

    #[test]
    fn entries_are_read_from_the_right_past_trusted_proxies() {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (lines, expected) in [
            (&["198.51.100.1, 203.0.113.7"][..], "203.0.113.7"),
            (&["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
            (&["198.51.100.1, 203.0.113.7, 10.0.0.9"], "203.0.113.7"),
            (&["203.0.113.7", "2001:db8:1::5, 10.0.0.9"], "203.0.113.7"),
            // An entry of the client itself is not believed.
            (&["10.0.0.5, 203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, unknown, 10.0.0.9"], "10.0.0.9"),
            (&["10.0.0.8, 10.0.0.9"], "10.0.0.8"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", lines, &trusted), expected, "{lines:?}");
        }
        assert_eq!(seen("192.0.2.1", &["203.0.113.7"], &trusted), "192.0.2.1");
        assert_eq!(
            seen("::ffff:10.0.0.1", &["203.0.113.7"], &trusted),
            "203.0.113.7"
        );
    }
}
