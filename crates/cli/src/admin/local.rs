//! A data folder in place: the same `Authority` methods that the server calls, with the operator as the actor.

use std::path::Path;

use async_trait::async_trait;
use countersign_authority::{
    Actor, AuditReport, Authority, AuthorityOptions, CreatedInstance, Error, InstanceInfo, Invalid,
    IssueRequest, ListMachines, ListTokens, MachineRequest, MachineUpdate, Operator,
};
use countersign_protocol::body::{
    DeletedMachine, ExposedSecret, M2mToken, M2mTokenList, Machine, MachineList, MachineScope,
    MachineSecretKey,
};
use countersign_protocol::ids::{InstanceId, MachineId, SigningKeyId, TokenId};
use countersign_protocol::secret::Secret;
use countersign_protocol::settings::SettingsUpdate;
use countersign_protocol::token::TokenFormat;
use serde_json::{Map, Value, json};

use super::bodies::{
    ChangeBody, InstanceBody, InstanceKeyBody, List, NewInstanceKeyBody, SigningKeyBody,
};
use super::target::{MachinePage, NewFormat, NewToken, Target, TokenPage};
use crate::exit::{Code, Failure};
use crate::folder;

/// The index of tokens, in MiB: a command looks at few.
const INDEX_MIB: u64 = 8;

/// An authority that this process has opened.
pub(crate) struct Local {
    authority: Authority,
    operator: Operator,
    /// The operator as an administrator of the chosen instance, or why no instance could be chosen.
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
        let (authority, operator) =
            folder::open(data, master_key_file, Some(INDEX_MIB), options).await?;
        let choice = match choose(&authority.instances(&operator).await?, instance) {
            Ok(id) => Ok(authority.operator_for(&operator, id).await?),
            Err(refusal) => Err(refusal),
        };
        Ok(Self {
            authority,
            operator,
            choice,
            has_public_url,
        })
    }

    pub(crate) async fn instances(&self) -> Result<List<InstanceBody>, Failure> {
        let instances = self.authority.instances(&self.operator).await?;
        let bodies: Vec<_> = instances
            .into_iter()
            .map(|instance| self.instance_body(instance))
            .collect();
        Ok(bodies.into())
    }

    pub(crate) async fn create_instance(
        &self,
        name: &str,
        is_live: bool,
    ) -> Result<CreatedInstance, Failure> {
        let created = self
            .authority
            .create_instance(&self.operator, name, is_live)
            .await?;
        Ok(created)
    }

    pub(crate) fn public_url(&self) -> &str {
        &self.authority.options().public_url
    }

    pub(crate) async fn verify_audit(&self) -> Result<AuditReport, Failure> {
        Ok(self.authority.verify_audit(self.actor()?).await?)
    }

    fn actor(&self) -> Result<&Actor, Failure> {
        self.choice
            .as_ref()
            .map_err(|(message, hint)| Failure::new(Code::Settings, message, hint))
    }

    async fn machine_actor(&self, machine: MachineId) -> Result<Actor, Failure> {
        let instance = self.actor()?.instance_id();
        let actor = self
            .authority
            .operator_as_machine(&self.operator, instance, machine)
            .await?;
        Ok(actor)
    }

    fn instance_body(&self, instance: InstanceInfo) -> InstanceBody {
        InstanceBody::new(instance, self.has_public_url)
    }

    /// Returns whether the issuer of the instance's JWTs is known here.
    async fn has_issuer(&self) -> Result<bool, Failure> {
        if self.has_public_url {
            return Ok(true);
        }
        let instance = self.authority.instance(self.actor()?).await?;
        Ok(instance.settings.issuer.is_some())
    }
}

/// Chooses the instance that the user means. If there is none, returns the message and the hint.
fn choose(
    instances: &[InstanceInfo],
    wanted: Option<&str>,
) -> Result<InstanceId, (String, String)> {
    let names: Vec<String> = instances
        .iter()
        .map(|instance| format!("{} ({})", instance.id, instance.name))
        .collect();
    let hint = format!("give --instance with one of: {}", names.join(", "));
    let is_wanted = |instance: &&InstanceInfo| {
        wanted.is_none_or(|wanted| instance.id.as_str() == wanted || instance.name == wanted)
    };
    let mut fitting = instances.iter().filter(is_wanted);
    match (fitting.next(), fitting.next(), wanted) {
        (Some(instance), None, _) => Ok(instance.id),
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
        let list = ListMachines {
            query: page.query.clone(),
            order_by: Some(page.order_by.clone()),
            limit: Some(page.limit.into()),
            offset: Some(signed(page.offset)),
        };
        let page = self.authority.list_machines(self.actor()?, list).await?;
        Ok(page.into_body())
    }

    async fn create_machine(
        &self,
        name: &str,
        calls: &[MachineId],
        ttl: Option<i64>,
    ) -> Result<Machine, Failure> {
        let request = MachineRequest {
            name: name.to_owned(),
            scoped_machines: calls.iter().map(MachineId::to_string).collect(),
            default_token_ttl: ttl,
        };
        let actor = self.actor()?;
        Ok(self.authority.create_machine(actor, request).await?)
    }

    async fn machine(&self, id: MachineId) -> Result<Machine, Failure> {
        Ok(self.authority.machine(self.actor()?, id).await?)
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
        let actor = self.actor()?;
        Ok(self.authority.update_machine(actor, id, update).await?)
    }

    async fn delete_machine(&self, id: MachineId) -> Result<DeletedMachine, Failure> {
        Ok(self.authority.delete_machine(self.actor()?, id).await?)
    }

    async fn machine_key(&self, id: MachineId) -> Result<MachineSecretKey, Failure> {
        Ok(self.authority.reveal_machine_key(self.actor()?, id).await?)
    }

    async fn rotate_machine_key(
        &self,
        id: MachineId,
        previous_ttl: i64,
    ) -> Result<MachineSecretKey, Failure> {
        let actor = self.actor()?;
        let rotated = self
            .authority
            .rotate_machine_key(actor, id, previous_ttl)
            .await?;
        Ok(rotated)
    }

    async fn create_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        Ok(self.authority.create_scope(self.actor()?, from, to).await?)
    }

    async fn delete_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure> {
        Ok(self.authority.delete_scope(self.actor()?, from, to).await?)
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
        if format == TokenFormat::Jwt && !self.has_issuer().await? {
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
        let actor = match machine {
            Some(machine) => &self.machine_actor(machine).await?,
            None => self.actor()?,
        };
        Ok(self.authority.verify(actor, token.expose()).await?)
    }

    async fn tokens(&self, subject: MachineId, page: &TokenPage) -> Result<M2mTokenList, Failure> {
        let list = ListTokens {
            subject: Some(subject.to_string()),
            revoked: page.revoked,
            expired: page.expired,
            format: Some(page.format.as_str().to_owned()),
            limit: Some(page.limit.into()),
            offset: Some(signed(page.offset)),
        };
        Ok(self.authority.list_tokens(self.actor()?, list).await?)
    }

    async fn revoke_token(&self, id: TokenId, reason: Option<&str>) -> Result<M2mToken, Failure> {
        let reason = reason.map(str::to_owned);
        Ok(self.authority.revoke(self.actor()?, id, reason).await?)
    }

    async fn own_machine(&self) -> Result<Option<MachineId>, Failure> {
        Ok(None)
    }

    async fn signing_keys(&self) -> Result<List<SigningKeyBody>, Failure> {
        let keys = self.authority.signing_keys(self.actor()?).await?;
        Ok(keys
            .into_iter()
            .map(SigningKeyBody::from)
            .collect::<Vec<_>>()
            .into())
    }

    async fn rotate_signing_key(&self, is_immediate: bool) -> Result<SigningKeyBody, Failure> {
        Ok(self
            .authority
            .rotate_signing_key(self.actor()?, is_immediate)
            .await?
            .into())
    }

    async fn delete_signing_key(&self, kid: SigningKeyId) -> Result<Value, Failure> {
        self.authority
            .delete_signing_key(self.actor()?, kid)
            .await?;
        Ok(json!({ "kid": kid, "deleted": true }))
    }

    async fn instance(&self) -> Result<InstanceBody, Failure> {
        let instance = self.authority.instance(self.actor()?).await?;
        Ok(self.instance_body(instance))
    }

    async fn update_instance(&self, settings: Map<String, Value>) -> Result<InstanceBody, Failure> {
        let mut update = SettingsUpdate::default();
        for (name, value) in settings {
            let set = update.set(&name, value);
            set.map_err(|error| Error::from(Invalid::from(error)))?;
        }
        let updated = self
            .authority
            .update_instance_settings(self.actor()?, &update)
            .await?;
        Ok(self.instance_body(updated))
    }

    async fn instance_keys(&self) -> Result<List<InstanceKeyBody>, Failure> {
        let keys = self.authority.instance_keys(self.actor()?).await?;
        Ok(keys
            .into_iter()
            .map(InstanceKeyBody::from)
            .collect::<Vec<_>>()
            .into())
    }

    async fn create_instance_key(&self, is_live: bool) -> Result<NewInstanceKeyBody, Failure> {
        let created = self
            .authority
            .create_instance_key(self.actor()?, is_live)
            .await?;
        Ok(NewInstanceKeyBody {
            object: "instance_key".to_owned(),
            id: created.info.id.to_string(),
            created_at: created.info.created_at,
            secret_key: Some(ExposedSecret(created.key.expose().to_owned())),
        })
    }

    async fn revoke_instance_key(&self, id: &str) -> Result<Value, Failure> {
        self.authority
            .revoke_instance_key(self.actor()?, id)
            .await?;
        Ok(json!({ "object": "instance_key", "id": id, "deleted": true }))
    }

    async fn changes(&self, after: u64) -> Result<Vec<ChangeBody>, Failure> {
        let after = Some(signed(after));
        let changes = self.authority.list_changes(self.actor()?, after).await?;
        Ok(changes.into_iter().map(ChangeBody::from).collect())
    }

    async fn finish(&self) -> Result<(), Failure> {
        Ok(self.authority.flush().await?)
    }
}

/// Converts a number to the authority's type. The authority refuses numbers that are too large.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
