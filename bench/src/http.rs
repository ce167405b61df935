//! As much of HTTP/1.1 as a benchmark's client needs: request bytes, response framing, one plain call.
//!
//! Responses are framed by Content-Length alone (RFC 9112 §6.2). A server that answers in chunks
//! would be refused here with a clear error rather than measured wrongly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub const JSON: &str = "application/json";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A whole response at the start of some received bytes.
#[derive(Debug)]
pub struct Response<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

/// Builds the bytes of one keep-alive POST.
pub fn post(path: &str, bearer: Option<&str>, content_type: &str, body: &str) -> Vec<u8> {
    let authorization = authorization(bearer);
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\
         Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Builds the bytes of one keep-alive GET.
pub fn get(path: &str, bearer: Option<&str>) -> Vec<u8> {
    let authorization = authorization(bearer);
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\n").into_bytes()
}

fn authorization(bearer: Option<&str>) -> String {
    bearer
        .map(|key| format!("Authorization: Bearer {key}\r\n"))
        .unwrap_or_default()
}

/// Reads one response from `bytes`; `None` means that more bytes must come.
pub fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(bytes).context("not HTTP")? else {
        return Ok(None);
    };
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .context("the answer has no Content-Length")?;
    let length: usize = std::str::from_utf8(length.value)?.trim().parse()?;
    let status = head.code.expect("a complete head has a status");

    let (_, body) = bytes.split_at(head_length);
    ensure!(body.len() <= length, "the answer is longer than announced");
    Ok((body.len() == length).then_some(Response { status, body }))
}

/// Sends one request on a connection of its own and returns status and body.
pub fn call(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            bail!("the server closed the connection before its answer was complete");
        }
        received.extend_from_slice(chunk.split_at(count).0);
        if let Some(response) = parse(&received)? {
            return Ok((response.status, response.body.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_complete_with_its_last_byte() {
        let bytes = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).unwrap().is_none());
        }
        let response = parse(bytes).unwrap().unwrap();
        assert_eq!((response.status, response.body), (201, &b"{}"[..]));
    }

    #[test]
    fn response_without_length_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn bytes_after_the_response_are_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx").is_err());
    }
}
