//! Heads of requests: the first line is a target, the others are values of `Authorization`. Nothing panics, a credential is what stood
//! behind the one scheme, a route is the path as it was written, a query is read or refused as UTF-8 has it.
#![no_main]

use countersign_server::fuzzing::{credential, is_version_accepted, query, route};
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    if let Some(Ok(target)) = lines.next().map(PathAndQuery::try_from) {
        check_path(target.path());
        check_query(target.query().unwrap_or_default());
    }
    let mut headers = HeaderMap::new();
    for value in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(AUTHORIZATION, value);
    }
    if let Some(found) = credential(&headers) {
        assert_eq!(headers.len(), 1, "one of several credentials was chosen");
        let line = headers[AUTHORIZATION]
            .to_str()
            .expect("what was read is text");
        assert!(line[..7].eq_ignore_ascii_case("bearer "));
        assert_eq!(line[7..].trim_matches(' '), found);
        assert!(!found.is_empty() && !found.contains(' '));
    }
});

fn check_path(path: &str) {
    for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
        let Some((pattern, captures)) = route(&method, path) else {
            continue;
        };
        let mut filled = pattern.to_owned();
        for capture in captures {
            assert!(!capture.contains('/'));
            if let (Some(start), Some(end)) = (filled.find('{'), filled.find('}')) {
                assert!(!capture.is_empty());
                // Braces of the path itself must not be taken for those of the pattern.
                filled.replace_range(start..=end, &capture.replace(['{', '}'], "\0"));
            }
        }
        let path = path.replace(['{', '}'], "\0");
        assert!(
            path == filled || path.strip_prefix("/v1") == Some(&filled),
            "{path} {filled}"
        );
    }
}

fn check_query(text: &str) {
    let _ = is_version_accepted(&HeaderMap::new(), text);
    let read = query(text);
    if text.is_ascii() {
        assert_eq!(
            read.is_some(),
            std::str::from_utf8(&decoded(text)).is_ok(),
            "{text}"
        );
    }
    if let Some((_, Some(Some(limit)), _)) = read {
        // However a whole number is written, it is the one that it is in plain digits.
        let plain = query(&format!("limit={limit}"));
        assert_eq!(plain.and_then(|(_, limit, _)| limit), Some(Some(limit)));
    }
}

/// The bytes that a query stands for, white space apart.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, others @ ..] = rest {
        let hex = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        match others {
            [high, low, behind @ ..]
                if *first == b'%' && hex(*high).is_some() && hex(*low).is_some() =>
            {
                bytes.push(hex(*high).unwrap_or_default() << 4 | hex(*low).unwrap_or_default());
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}
