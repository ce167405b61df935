//! A server in this process with a clock that is set and seeded random bytes, and a client that sends exactly the bytes it
//! is given.

#[path = "../../../../authority/tests/it/support/faulty.rs"]
#[expect(dead_code, reason = "the authority's tests use the rest")]
pub(crate) mod faulty;
pub(crate) mod http;
#[path = "../../../../authority/tests/it/support/sources.rs"]
#[expect(dead_code, reason = "the authority's tests use the rest")]
pub(crate) mod sources;

use std::sync::Arc;

use countersign_authority::{Authority, AuthorityOptions, MasterKey, Operator};
use countersign_server::{Server, ServerOptions};
use countersign_store::{OpenStore, Store};
use serde_json::Value;

use self::faulty::FaultyStore;
use self::http::{Client, Reply, Request};
use self::sources::{ManualClock, SeededRandom};
use crate::back_end::Data;

/// A server with one instance.
pub(crate) struct Api {
    pub(crate) server: Option<Server>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<Authority>,
    operator: Operator,
    /// The key of the instance.
    pub(crate) sk: String,
    runtime: tokio::runtime::Runtime,
    _data: Data,
}

/// A machine, as its creation answered.
#[derive(Clone, Debug)]
pub(crate) struct Bot {
    pub(crate) id: String,
    pub(crate) ak: String,
}

/// A token, as its creation answered.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) string: String,
}

impl Api {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts with other options than the usual ones.
    pub(crate) fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        Self::start_by(change, |_| {})
    }

    /// Starts an authority with other options than the usual ones.
    pub(crate) fn start_authority_with(change: impl FnOnce(&mut AuthorityOptions)) -> Self {
        Self::start_by(|_| {}, change)
    }

    fn start_by(
        change: impl FnOnce(&mut ServerOptions),
        change_authority: impl FnOnce(&mut AuthorityOptions),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let clock = Arc::new(ManualClock::default());
        let master = MasterKey::generate(&*random);
        let (data, store) = Data::new();
        let store = Arc::new(FaultyStore::new(store.into_store()));
        let mut options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: None,
            threads: 1,
            tls: None,
            trusted_proxies: Vec::new(),
            mounts: Vec::new(),
            is_for_this_machine: false,
            lost_log_lines: std::sync::Arc::default(),
        };
        change(&mut options);
        let (authority, operator, sk) = runtime.block_on(async {
            let open = || OpenStore::from(Arc::clone(&store) as Arc<dyn Store>);
            Authority::initialize(&open(), &master, &*clock, &*random)
                .await
                .unwrap();
            let mut settings = AuthorityOptions {
                public_url: "https://auth.example.com".to_owned(),
                ..AuthorityOptions::default()
            };
            change_authority(&mut settings);
            let (clock, random) = (Arc::clone(&clock) as _, Arc::clone(&random) as _);
            let opened = Authority::open(open(), &master, clock, random, settings).await;
            let (authority, operator) = opened.unwrap();
            let created = authority.create_instance(&operator, "test", false).await;
            let sk = created.unwrap().key.expose().to_owned();
            (Arc::new(authority), operator, sk)
        });
        let server = Server::start(Arc::clone(&authority), random, &options).unwrap();
        Self {
            server: Some(server),
            store,
            clock,
            authority,
            operator,
            sk,
            runtime,
            _data: data,
        }
    }

    /// Does something at the authority itself.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A second instance; its key.
    pub(crate) fn second_instance(&self) -> String {
        let created = self
            .authority
            .create_instance(&self.operator, "second", false);
        self.wait(created).unwrap().key.expose().to_owned()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.server.as_ref().unwrap().address())
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn send(&self, request: &Request) -> Reply {
        self.client().send(request)
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> Reply {
        self.send(&Request::new("GET", path).key(key))
    }

    pub(crate) fn delete(&self, path: &str, key: &str) -> Reply {
        self.send(&Request::new("DELETE", path).key(key))
    }

    pub(crate) fn post(&self, path: &str, key: &str, body: &str) -> Reply {
        self.send(&Request::new("POST", path).key(key).json(body))
    }

    pub(crate) fn patch(&self, path: &str, key: &str, body: &str) -> Reply {
        self.send(&Request::new("PATCH", path).key(key).json(body))
    }

    /// A new machine that may call `scopes`.
    pub(crate) fn machine(&self, name: &str, scopes: &[&Bot]) -> Bot {
        self.machine_of(&self.sk, name, scopes)
    }

    pub(crate) fn machine_of(&self, sk: &str, name: &str, scopes: &[&Bot]) -> Bot {
        let scopes: Vec<_> = scopes.iter().map(|bot| &bot.id).collect();
        let body = serde_json::json!({"name": name, "scoped_machines": scopes}).to_string();
        let made = self.post("/machines", sk, &body).value();
        Bot {
            id: text(&made["id"]),
            ak: text(&made["secret_key"]),
        }
    }

    /// A receiver and a sender that may call it.
    pub(crate) fn pair(&self) -> (Bot, Bot) {
        let receiver = self.machine("receiver", &[]);
        let sender = self.machine("sender", &[&receiver]);
        (sender, receiver)
    }

    pub(crate) fn token(&self, bot: &Bot, body: &str) -> Token {
        let made = self.post("/m2m_tokens", &bot.ak, body).value();
        Token {
            id: text(&made["id"]),
            string: text(&made["token"]),
        }
    }

    pub(crate) fn verify(&self, key: &str, token: &str) -> Reply {
        let body = serde_json::json!({ "token": token }).to_string();
        self.post("/m2m_tokens/verify", key, &body)
    }

    /// Changes settings of the instance.
    pub(crate) fn set(&self, settings: &str) {
        let body = format!(r#"{{"settings":{settings}}}"#);
        let set = self.patch("/countersign/instance", &self.sk, &body);
        assert_eq!(set.status, 200, "{set}");
    }

    /// What comes of each body, one line each.
    pub(crate) fn table(
        &self,
        method: &'static str,
        path: &str,
        key: &str,
        bodies: &[&str],
    ) -> String {
        let mut client = self.client();
        let mut lines = String::new();
        for body in bodies {
            let request = Request::new(method, path).key(key).json(body);
            lines += &format!("{body} → {}\n", client.send(&request).line());
        }
        lines
    }

    /// What comes of each query, one line each.
    pub(crate) fn queries(&self, path: &str, key: &str, queries: &[&str]) -> String {
        let mut client = self.client();
        let mut lines = String::new();
        for query in queries {
            let request = Request::new("GET", &format!("{path}?{query}")).key(key);
            lines += &format!("{query} → {}\n", client.send(&request).line());
        }
        lines
    }

    /// What comes of each kind of credential, with and without the prefix, which must make no difference.
    pub(crate) fn credentials(&self, request: &Request, bot: &Bot) -> String {
        let token = self.token(bot, "{}");
        let mut lines = String::new();
        for (what, value) in [
            ("none", None),
            ("empty", Some("Bearer ".to_owned())),
            ("Basic", Some("Basic YTpi".to_owned())),
            ("sk", Some(format!("Bearer {}", self.sk))),
            ("unknown sk", Some("Bearer sk_test_unknown".to_owned())),
            ("ak", Some(format!("Bearer {}", bot.ak))),
            ("unknown ak", Some("Bearer ak_unknown".to_owned())),
            ("token", Some(format!("Bearer {}", token.string))),
            ("token id", Some(format!("Bearer {}", token.id))),
            ("garbage", Some("Bearer garbage".to_owned())),
        ] {
            let mut answers = ["", "/v1"].map(|prefix| {
                let mut request = request.clone().under(prefix);
                if let Some(value) = &value {
                    request = request.header("Authorization", value);
                }
                let reply = self.send(&request);
                if matches!(reply.status, 401) {
                    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
                }
                // Twenty failures are a test of their own.
                self.clock.advance(10_000);
                if reply.is_success() {
                    reply.status.to_string()
                } else {
                    reply.line()
                }
            });
            answers.sort_unstable();
            assert_eq!(answers[0], answers[1], "the prefix makes a difference");
            lines += &format!("{what} → {}\n", answers[0]);
        }
        lines
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}
