//! An authority over HTTP, with an instance key or a machine key.

use std::time::Duration;

use async_trait::async_trait;
use countersign_client::{Client, Error};
use countersign_protocol::body::{
    DeletedMachine, M2mToken, M2mTokenList, Machine, MachineList, MachineScope, MachineSecretKey,
};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{MachineId, SigningKeyId, TokenId};
use countersign_protocol::secret::Secret;
use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bodies::{
    ChangeBody, InstanceBody, InstanceKeyBody, List, NewInstanceKeyBody, SigningKeyBody,
};
use super::output;
use super::refusal::{VERIFY, failed, foreign, refused};
use super::target::{MachinePage, NewFormat, NewToken, Target, TokenPage};
use crate::exit::{Code, Failure};

/// How long name, connection and TLS may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the whole answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer: a thousand changes or five hundred machines with their scopes fit many times.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The address and the keys at hand.
pub(crate) struct Remote {
    url: String,
    allows_plain: bool,
    instance_key: Option<Secret>,
    machine_key: Option<Secret>,
    /// Whether the machine key was named on the command line and so is meant.
    prefers_machine: bool,
}

impl Remote {
    pub(crate) fn new(
        url: &str,
        instance_key: Option<Secret>,
        machine_key: Option<Secret>,
        prefers_machine: bool,
        allows_plain: bool,
    ) -> Result<Self, Failure> {
        let places = [
            (&instance_key, "sk_", "an instance key"),
            (&machine_key, "ak_", "a machine key"),
        ];
        for (key, prefix, noun) in places {
            if key
                .as_ref()
                .is_some_and(|key| !key.expose().starts_with(prefix))
            {
                let hint = "instance keys begin with sk_ and go into CLERK_SECRET_KEY; machine keys begin with ak_ and go into CLERK_MACHINE_SECRET_KEY";
                return Err(Failure::new(
                    Code::Settings,
                    format!("what was given as {noun} is none"),
                    hint,
                ));
            }
        }
        let remote = Self {
            url: url.to_owned(),
            allows_plain,
            instance_key,
            machine_key,
            prefers_machine,
        };
        // A wrong address is told before anything is said of it.
        if let Some(key) = remote.instance_key.as_ref().or(remote.machine_key.as_ref()) {
            remote.client(key)?;
        }
        Ok(remote)
    }

    fn client(&self, key: &Secret) -> Result<Client, Failure> {
        let mut client = Client::builder(&self.url, key.expose())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .max_answer_bytes(MAX_ANSWER_BYTES);
        if self.allows_plain {
            client = client.allow_plain_http();
        }
        client.build().map_err(failed)
    }

    fn instance_key(&self) -> Result<&Secret, Failure> {
        self.instance_key.as_ref().ok_or_else(|| {
            Failure::new(
                Code::Settings,
                "this needs the instance key",
                "put it into CLERK_SECRET_KEY, or name a file that holds it with --secret-key-file; it never goes on the command line",
            )
        })
    }

    /// For what either key may do.
    fn any_key(&self) -> Result<&Secret, Failure> {
        match &self.machine_key {
            Some(key) if self.prefers_machine || self.instance_key.is_none() => Ok(key),
            _ => self.instance_key(),
        }
    }

    /// The key of `machine`, which an instance key can read, or else the machine key at hand.
    async fn key_of(&self, machine: Option<MachineId>) -> Result<Option<Secret>, Failure> {
        let Some(machine) = machine else {
            return Ok(None);
        };
        if self.prefers_machine {
            let hint = "leave one of them out: the key says which machine it is";
            return Err(Failure::new(
                Code::Usage,
                "a machine and --machine-key-file are given both",
                hint,
            ));
        }
        output::note(&format!(
            "Using the key of {machine}; the change log notes that it was shown."
        ));
        Ok(Some(Secret::new(self.machine_key(machine).await?.secret.0)))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        key: &Secret,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<T, Failure> {
        let client = self.client(key)?;
        let answer = match client.request(method, path, body).await {
            Ok(answer) => answer,
            Err(Error::Refused(refusal)) => {
                return Err(refused(client.address(), path, &refusal));
            }
            Err(error) => return Err(failed(error)),
        };
        serde_json::from_slice(answer.body()).map_err(|error| {
            foreign(format!(
                "what answers at {} is no authority that this program knows: its answer cannot be read ({error})",
                client.address()
            ))
        })
    }

    async fn manage<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        self.call(
            self.instance_key()?,
            method,
            path,
            body.map(Value::to_string),
        )
        .await
    }
}

/// The body of an issue request; the claims keep their text.
#[derive(Serialize)]
struct IssueBody<'a> {
    token_format: &'a str,
    seconds_until_expiration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_remaining_ttl_seconds: Option<i64>,
    claims: Option<&'a Claims>,
}

/// New values of a machine; absent ones are not sent.
#[derive(Serialize)]
struct MachineFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_token_ttl: Option<i64>,
    #[serde(skip_serializing_if = "<[MachineId]>::is_empty")]
    scoped_machines: &'a [MachineId],
}

fn query(pairs: &[(&str, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

#[async_trait(?Send)]
impl Target for Remote {
    async fn machines(&self, page: &MachinePage) -> Result<MachineList, Failure> {
        let query = query(&[
            ("limit", page.limit.to_string()),
            ("offset", page.offset.to_string()),
            ("order_by", page.order_by.clone()),
            ("query", page.query.clone().unwrap_or_default()),
        ]);
        self.manage(Method::GET, &format!("/machines?{query}"), None)
            .await
    }

    async fn create_machine(
        &self,
        name: &str,
        calls: &[MachineId],
        ttl: Option<i64>,
    ) -> Result<Machine, Failure> {
        let body = json!(MachineFields {
            name: Some(name),
            default_token_ttl: ttl,
            scoped_machines: calls
        });
        self.manage(Method::POST, "/machines", Some(&body)).await
    }

    async fn machine(&self, id: MachineId) -> Result<Machine, Failure> {
        self.manage(Method::GET, &format!("/machines/{id}"), None)
            .await
    }

    async fn update_machine(
        &self,
        id: MachineId,
        name: Option<&str>,
        ttl: Option<i64>,
    ) -> Result<Machine, Failure> {
        let body = json!(MachineFields {
            name,
            default_token_ttl: ttl,
            scoped_machines: &[]
        });
        self.manage(Method::PATCH, &format!("/machines/{id}"), Some(&body))
            .await
    }

    async fn delete_machine(&self, id: MachineId) -> Result<DeletedMachine, Failure> {
        self.manage(Method::DELETE, &format!("/machines/{id}"), None)
            .await
    }

    async fn machine_key(&self, id: MachineId) -> Result<MachineSecretKey, Failure> {
        self.manage(Method::GET, &format!("/machines/{id}/secret_key"), None)
            .await
    }

    async fn rotate_machine_key(
        &self,
        id: MachineId,
        previous_ttl: i64,
    ) -> Result<MachineSecretKey, Failure> {
        let body = json!({ "previous_token_ttl": previous_ttl });
        self.manage(
            Method::POST,
            &format!("/machines/{id}/secret_key/rotate"),
            Some(&body),
        )
        .await
    }

    async fn create_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        self.manage(
            Method::POST,
            &format!("/machines/{from}/scopes"),
            Some(&json!({ "to_machine_id": to })),
        )
        .await
    }

    async fn delete_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        self.manage(
            Method::DELETE,
            &format!("/machines/{from}/scopes/{to}"),
            None,
        )
        .await
    }

    async fn issue(&self, machine: Option<MachineId>, new: &NewToken) -> Result<M2mToken, Failure> {
        let own = self.key_of(machine).await?;
        let key = own.as_ref().or(self.machine_key.as_ref()).ok_or_else(|| {
            Failure::new(
                Code::Settings,
                "a token is issued to a machine, and no machine's key is at hand",
                "put the key into CLERK_MACHINE_SECRET_KEY, name its file with --machine-key-file, or name the machine and give the instance key",
            )
        })?;
        let body = IssueBody {
            token_format: match new.format {
                NewFormat::Opaque => "opaque",
                NewFormat::Jwt => "jwt",
            },
            seconds_until_expiration: new.ttl,
            min_remaining_ttl_seconds: new.min_remaining,
            claims: new.claims.as_ref(),
        };
        let body = serde_json::to_string(&body).map_err(|error| {
            Failure::new(Code::Failed, error, "this is a fault of this program")
        })?;
        self.call(key, Method::POST, "/m2m_tokens", Some(body))
            .await
    }

    async fn verify(
        &self,
        machine: Option<MachineId>,
        token: &Secret,
    ) -> Result<M2mToken, Failure> {
        let own = self.key_of(machine).await?;
        let key = match &own {
            Some(key) => key,
            None => self.any_key()?,
        };
        self.call(
            key,
            Method::POST,
            VERIFY,
            Some(json!({ "token": token.expose() }).to_string()),
        )
        .await
    }

    async fn tokens(&self, subject: MachineId, page: &TokenPage) -> Result<M2mTokenList, Failure> {
        let query = query(&[
            ("subject", subject.to_string()),
            ("revoked", page.revoked.to_string()),
            ("expired", page.expired.to_string()),
            ("format", page.format.as_str().to_owned()),
            ("limit", page.limit.to_string()),
            ("offset", page.offset.to_string()),
        ]);
        self.call(
            self.any_key()?,
            Method::GET,
            &format!("/m2m_tokens?{query}"),
            None,
        )
        .await
    }

    async fn revoke_token(&self, id: TokenId, reason: Option<&str>) -> Result<M2mToken, Failure> {
        let body = json!({ "revocation_reason": reason });
        self.call(
            self.any_key()?,
            Method::POST,
            &format!("/m2m_tokens/{id}/revoke"),
            Some(body.to_string()),
        )
        .await
    }

    async fn own_machine(&self) -> Result<Option<MachineId>, Failure> {
        #[derive(Deserialize)]
        struct WhoAmI {
            machine_id: Option<MachineId>,
        }
        let who: WhoAmI = self
            .call(self.any_key()?, Method::GET, "/countersign/whoami", None)
            .await?;
        Ok(who.machine_id)
    }

    async fn signing_keys(&self) -> Result<List<SigningKeyBody>, Failure> {
        self.manage(Method::GET, "/countersign/signing_keys", None)
            .await
    }

    async fn rotate_signing_key(&self, is_immediate: bool) -> Result<SigningKeyBody, Failure> {
        self.manage(
            Method::POST,
            "/countersign/signing_keys/rotate",
            Some(&json!({ "immediate": is_immediate })),
        )
        .await
    }

    async fn delete_signing_key(&self, kid: SigningKeyId) -> Result<Value, Failure> {
        self.manage(
            Method::DELETE,
            &format!("/countersign/signing_keys/{kid}"),
            None,
        )
        .await
    }

    async fn instance(&self) -> Result<InstanceBody, Failure> {
        self.manage(Method::GET, "/countersign/instance", None)
            .await
    }

    async fn update_instance(&self, settings: Map<String, Value>) -> Result<InstanceBody, Failure> {
        self.manage(
            Method::PATCH,
            "/countersign/instance",
            Some(&json!({ "settings": settings })),
        )
        .await
    }

    async fn instance_keys(&self) -> Result<List<InstanceKeyBody>, Failure> {
        self.manage(Method::GET, "/countersign/instance_keys", None)
            .await
    }

    async fn create_instance_key(&self, is_live: bool) -> Result<NewInstanceKeyBody, Failure> {
        self.manage(
            Method::POST,
            "/countersign/instance_keys",
            Some(&json!({ "live": is_live })),
        )
        .await
    }

    async fn revoke_instance_key(&self, id: &str) -> Result<Value, Failure> {
        self.manage(
            Method::DELETE,
            &format!("/countersign/instance_keys/{id}"),
            None,
        )
        .await
    }

    async fn changes(&self, after: u64) -> Result<Vec<ChangeBody>, Failure> {
        #[derive(Deserialize)]
        struct Changes {
            data: Vec<ChangeBody>,
        }
        let changes: Changes = self
            .manage(
                Method::GET,
                &format!("/countersign/changes?after={after}"),
                None,
            )
            .await?;
        Ok(changes.data)
    }

    async fn finish(&self) -> Result<(), Failure> {
        Ok(())
    }
}
