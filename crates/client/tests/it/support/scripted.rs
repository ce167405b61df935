//! A server that answers each request with bytes that a test has written, or not at all. It remembers what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, then the connection is closed.
    Bytes(String),
    /// Nothing, for ever.
    Silence,
    /// The head of an answer and then nothing more.
    Half,
    /// The connection is closed at once.
    Hangup,
}

impl Answer {
    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::with(status, "application/json", "", body)
    }

    /// An answer with further header lines, each with its end.
    pub(crate) fn with(status: u16, content_type: &str, headers: &str, body: &str) -> Self {
        Self::Bytes(format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
            body.len()
        ))
    }
}

/// The server.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Answers all requests alike.
    pub(crate) async fn always(answer: Answer) -> Self {
        Self::by(move |_| answer.clone()).await
    }

    /// Answers each request, which is given as text, as `answer` says.
    pub(crate) async fn by(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move { talk(stream, &*answer, &seen).await });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn talk(
    mut stream: TcpStream,
    answer: &(dyn Fn(&str) -> Answer + Send + Sync),
    seen: &Mutex<Vec<String>>,
) {
    let Some(request) = read(&mut stream).await else {
        return;
    };
    let answer = answer(&request);
    seen.lock().unwrap().push(request);
    match answer {
        Answer::Bytes(bytes) => {
            // Whoever asked may have gone away.
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
        Answer::Silence => std::future::pending().await,
        Answer::Half => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
            let _ = stream.write_all(head.as_bytes()).await;
            std::future::pending().await
        }
        Answer::Hangup => {}
    }
}

/// One request with its body; `None` where the connection ends before.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.parse().unwrap());
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}
