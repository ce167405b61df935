//! A data folder in place: the same `Authority` methods that the server calls, with the operator as the actor.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_authority::{
    Actor, AuditReport, Authority, AuthorityOptions, CreatedInstance, Instance, IssueRequest,
    MachineOrder, MachineQuery, MachineRequest, MachineUpdate, Page, SortBy, TokenFormat,
    TokenFormats, machine_body,
};
use countersign_protocol::body::{
    DeletedMachine, ExposedSecret, M2mToken, M2mTokenList, Machine, MachineList, MachineScope,
    MachineScopeTag, MachineSecretKey, MachineSecretKeyTag, MachineTag,
};
use countersign_protocol::ids::{MachineId, SigningKeyId, TokenId};
use countersign_protocol::limits::DEFAULT_TOKEN_TTL_SECONDS;
use countersign_protocol::secret::{MachineKey, Secret};
use serde_json::{Value, json};

use super::bodies::{
    ChangeBody, InstanceBody, InstanceKeyBody, List, NewInstanceKeyBody, SigningKeyBody,
};
use super::target::{ListedFormat, MachinePage, NewFormat, NewToken, Target, TokenPage};
use crate::exit::{Code, Failure};
use crate::folder;

/// The index of tokens, in MiB: a command looks at few.
const INDEX_MIB: u64 = 8;

/// An authority that this process has opened.
pub(crate) struct Local {
    authority: Authority,
    /// The chosen instance, or why none could be chosen.
    choice: Result<Actor, (String, String)>,
    has_public_url: bool,
}

impl Local {
    pub(crate) async fn open(
        data: &Path,
        master_key_file: Option<&Path>,
        instance: Option<&str>,
        public_url: Option<String>,
    ) -> Result<Self, Failure> {
        let has_public_url = public_url.is_some();
        let defaults = AuthorityOptions::default();
        let options = AuthorityOptions {
            public_url: public_url.unwrap_or(defaults.public_url),
            ..defaults
        };
        let authority = folder::open(data, master_key_file, Some(INDEX_MIB), options).await?;
        let choice = choose(authority.instances().await?, instance);
        Ok(Self {
            authority,
            choice,
            has_public_url,
        })
    }

    pub(crate) async fn instances(&self) -> Result<List<InstanceBody>, Failure> {
        let instances = self.authority.instances().await?;
        let bodies: Vec<_> = instances
            .iter()
            .map(|instance| self.instance_body(instance))
            .collect();
        Ok(bodies.into())
    }

    pub(crate) async fn create_instance(
        &self,
        name: &str,
        is_live: bool,
    ) -> Result<CreatedInstance, Failure> {
        Ok(self.authority.create_instance(name, is_live).await?)
    }

    pub(crate) fn public_url(&self) -> &str {
        &self.authority.options().public_url
    }

    pub(crate) async fn verify_audit(&self) -> Result<AuditReport, Failure> {
        Ok(self.authority.verify_audit(self.operator()?).await?)
    }

    fn operator(&self) -> Result<&Actor, Failure> {
        self.choice
            .as_ref()
            .map_err(|(message, hint)| Failure::new(Code::Settings, message, hint))
    }

    async fn machine_actor(&self, machine: MachineId) -> Result<Actor, Failure> {
        Ok(self
            .authority
            .operator_as_machine(self.operator()?, machine)
            .await?)
    }

    fn instance_body(&self, instance: &Instance) -> InstanceBody {
        let is_known = self.has_public_url || instance.settings.issuer.is_some();
        InstanceBody::new(instance, is_known.then(|| self.authority.issuer(instance)))
    }
}

fn choose(instances: Vec<Arc<Instance>>, wanted: Option<&str>) -> Result<Actor, (String, String)> {
    let names: Vec<String> = instances
        .iter()
        .map(|instance| format!("{} ({})", instance.id, instance.name))
        .collect();
    let hint = format!("give --instance with one of: {}", names.join(", "));
    let is_wanted = |instance: &Arc<Instance>| {
        wanted.is_none_or(|wanted| instance.id.as_str() == wanted || instance.name == wanted)
    };
    let mut fitting = instances.into_iter().filter(is_wanted);
    match (fitting.next(), fitting.next(), wanted) {
        (Some(instance), None, _) => Ok(Authority::operator(instance)),
        (None, _, _) => Err((
            format!(
                "there is no instance '{}' in the data folder",
                wanted.unwrap_or_default()
            ),
            hint,
        )),
        (Some(_), Some(_), None) => Err(("the data folder has several instances".to_owned(), hint)),
        (Some(_), Some(_), Some(wanted)) => {
            Err((format!("several instances are named '{wanted}'"), hint))
        }
    }
}

#[async_trait(?Send)]
impl Target for Local {
    async fn machines(&self, page: &MachinePage) -> Result<MachineList, Failure> {
        let (is_descending, field) = match page.order_by.strip_prefix('-') {
            Some(field) => (true, field),
            None => (false, page.order_by.trim_start_matches('+')),
        };
        let by = if field == "name" {
            SortBy::Name
        } else {
            SortBy::CreatedAt
        };
        let query = MachineQuery {
            text: page.query.clone().filter(|text| !text.is_empty()),
            order: MachineOrder { by, is_descending },
            page: Page {
                limit: page.limit,
                offset: page.offset,
            },
        };
        let (machines, total) = self
            .authority
            .list_machines(self.operator()?, query)
            .await?;
        let data = machines
            .iter()
            .map(|machine| machine_body(machine, None))
            .collect();
        Ok(MachineList {
            data,
            total_count: i64::try_from(total).unwrap_or(i64::MAX),
        })
    }

    async fn create_machine(
        &self,
        name: &str,
        calls: &[MachineId],
        ttl: Option<i64>,
    ) -> Result<Machine, Failure> {
        let request = MachineRequest {
            name: name.to_owned(),
            scoped_machines: calls.to_vec(),
            default_token_ttl: ttl.unwrap_or(DEFAULT_TOKEN_TTL_SECONDS),
        };
        let created = self
            .authority
            .create_machine(self.operator()?, request)
            .await?;
        Ok(machine_body(&created.machine, Some(&created.key)))
    }

    async fn machine(&self, id: MachineId) -> Result<Machine, Failure> {
        Ok(machine_body(
            &self.authority.machine(self.operator()?, id).await?,
            None,
        ))
    }

    async fn update_machine(
        &self,
        id: MachineId,
        name: Option<&str>,
        ttl: Option<i64>,
    ) -> Result<Machine, Failure> {
        let update = MachineUpdate {
            name: name.map(str::to_owned),
            default_token_ttl: ttl,
        };
        Ok(machine_body(
            &self
                .authority
                .update_machine(self.operator()?, id, update)
                .await?,
            None,
        ))
    }

    async fn delete_machine(&self, id: MachineId) -> Result<DeletedMachine, Failure> {
        self.authority.delete_machine(self.operator()?, id).await?;
        Ok(DeletedMachine {
            object: MachineTag::Tag,
            id,
            deleted: true,
        })
    }

    async fn machine_key(&self, id: MachineId) -> Result<MachineSecretKey, Failure> {
        Ok(key_body(
            &self
                .authority
                .reveal_machine_key(self.operator()?, id)
                .await?,
        ))
    }

    async fn rotate_machine_key(
        &self,
        id: MachineId,
        previous_ttl: i64,
    ) -> Result<MachineSecretKey, Failure> {
        Ok(key_body(
            &self
                .authority
                .rotate_machine_key(self.operator()?, id, previous_ttl)
                .await?,
        ))
    }

    async fn create_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        let created_at = self
            .authority
            .create_scope(self.operator()?, from, to)
            .await?;
        let object = MachineScopeTag::Tag;
        Ok(MachineScope {
            object,
            from_machine_id: from,
            to_machine_id: to,
            created_at: Some(created_at),
            deleted: None,
        })
    }

    async fn delete_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        self.authority
            .delete_scope(self.operator()?, from, to)
            .await?;
        let object = MachineScopeTag::Tag;
        Ok(MachineScope {
            object,
            from_machine_id: from,
            to_machine_id: to,
            created_at: None,
            deleted: Some(true),
        })
    }

    async fn issue(&self, machine: Option<MachineId>, new: &NewToken) -> Result<M2mToken, Failure> {
        let machine = machine.ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "a token belongs to a machine, and none was named",
                "name it by id or name: countersign token create MACHINE",
            )
        })?;
        let actor = self.machine_actor(machine).await?;
        let format = match new.format {
            NewFormat::Opaque => TokenFormat::Opaque,
            NewFormat::Jwt => TokenFormat::Jwt,
        };
        if format == TokenFormat::Jwt
            && !self.has_public_url
            && actor.instance().settings.issuer.is_none()
        {
            return Err(Failure::new(
                Code::Settings,
                "a JWT names its issuer, and the data folder does not know it",
                "give --public-url as `serve` has it, or set it for good: countersign instance set issuer=https://auth.example.com",
            ));
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a lifetime that is allowed is far below 53 bits"
        )]
        let seconds_until_expiration = new.ttl.map(|seconds| seconds as f64);
        let request = IssueRequest {
            format,
            seconds_until_expiration,
            claims: new.claims.clone(),
            min_remaining_ttl_seconds: new.min_remaining,
        };
        Ok(self.authority.issue(&actor, &request).await?.body)
    }

    async fn verify(
        &self,
        machine: Option<MachineId>,
        token: &Secret,
    ) -> Result<M2mToken, Failure> {
        let verified = match machine {
            Some(machine) => {
                self.authority
                    .verify(&self.machine_actor(machine).await?, token.expose())
                    .await
            }
            None => {
                self.authority
                    .verify(self.operator()?, token.expose())
                    .await
            }
        };
        Ok(verified?)
    }

    async fn tokens(&self, subject: MachineId, page: &TokenPage) -> Result<M2mTokenList, Failure> {
        let formats = match page.format {
            ListedFormat::Opaque => TokenFormats::Opaque,
            ListedFormat::Jwt => TokenFormats::Jwt,
            ListedFormat::All => TokenFormats::All,
        };
        let part = Page {
            limit: page.limit,
            offset: page.offset,
        };
        let is_with = (page.revoked, page.expired);
        let (m2m_tokens, total) = self
            .authority
            .list_tokens(self.operator()?, subject, is_with, formats, part)
            .await?;
        Ok(M2mTokenList {
            m2m_tokens,
            total_count: i64::try_from(total).unwrap_or(i64::MAX),
        })
    }

    async fn revoke_token(&self, id: TokenId, reason: Option<&str>) -> Result<M2mToken, Failure> {
        Ok(self
            .authority
            .revoke(self.operator()?, id, reason.map(str::to_owned))
            .await?)
    }

    async fn own_machine(&self) -> Result<Option<MachineId>, Failure> {
        Ok(None)
    }

    async fn signing_keys(&self) -> Result<List<SigningKeyBody>, Failure> {
        let keys = self.authority.signing_keys(self.operator()?).await?;
        Ok(keys
            .into_iter()
            .map(SigningKeyBody::from)
            .collect::<Vec<_>>()
            .into())
    }

    async fn rotate_signing_key(&self, is_immediate: bool) -> Result<SigningKeyBody, Failure> {
        Ok(self
            .authority
            .rotate_signing_key(self.operator()?, is_immediate)
            .await?
            .into())
    }

    async fn delete_signing_key(&self, kid: SigningKeyId) -> Result<Value, Failure> {
        self.authority
            .delete_signing_key(self.operator()?, kid)
            .await?;
        Ok(json!({ "kid": kid, "deleted": true }))
    }

    async fn instance(&self) -> Result<InstanceBody, Failure> {
        Ok(self.instance_body(self.operator()?.instance()))
    }

    async fn update_instance(&self, settings: &Value) -> Result<InstanceBody, Failure> {
        let updated = self
            .authority
            .update_instance_settings(self.operator()?, settings)
            .await?;
        Ok(self.instance_body(&updated))
    }

    async fn instance_keys(&self) -> Result<List<InstanceKeyBody>, Failure> {
        let keys = self.authority.instance_keys(self.operator()?).await?;
        Ok(keys
            .into_iter()
            .map(InstanceKeyBody::from)
            .collect::<Vec<_>>()
            .into())
    }

    async fn create_instance_key(&self, is_live: bool) -> Result<NewInstanceKeyBody, Failure> {
        let created = self
            .authority
            .create_instance_key(self.operator()?, is_live)
            .await?;
        Ok(NewInstanceKeyBody {
            object: "instance_key".to_owned(),
            id: created.info.id,
            created_at: created.info.created_at,
            secret_key: Some(ExposedSecret(created.key.expose().to_owned())),
        })
    }

    async fn revoke_instance_key(&self, id: &str) -> Result<Value, Failure> {
        self.authority
            .revoke_instance_key(self.operator()?, id)
            .await?;
        Ok(json!({ "object": "instance_key", "id": id, "deleted": true }))
    }

    async fn changes(&self, after: u64) -> Result<Vec<ChangeBody>, Failure> {
        let changes = self.authority.list_changes(self.operator()?, after).await?;
        Ok(changes.into_iter().map(ChangeBody::from).collect())
    }

    async fn finish(&self) -> Result<(), Failure> {
        Ok(self.authority.flush().await?)
    }
}

fn key_body(key: &MachineKey) -> MachineSecretKey {
    MachineSecretKey {
        object: MachineSecretKeyTag::Tag,
        secret: ExposedSecret(key.expose().to_owned()),
    }
}
