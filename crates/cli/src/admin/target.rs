//! Where a command acts: an authority over HTTP, or a data folder in place. Each command is written once against [`Target`].

use async_trait::async_trait;
use countersign_protocol::body::{
    DeletedMachine, M2mToken, M2mTokenList, Machine, MachineList, MachineScope, MachineSecretKey,
};
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{MachineId, SigningKeyId, TokenId};
use countersign_protocol::secret::Secret;
use serde_json::{Map, Value};

use super::bodies::{
    ChangeBody, InstanceBody, InstanceKeyBody, List, NewInstanceKeyBody, SigningKeyBody,
};
use crate::exit::Failure;

/// Which machines to list.
#[derive(Clone, Debug)]
pub(crate) struct MachinePage {
    pub(crate) query: Option<String>,
    pub(crate) order_by: String,
    pub(crate) limit: u32,
    pub(crate) offset: u64,
}

/// Which tokens to list.
#[derive(Clone, Debug)]
pub(crate) struct TokenPage {
    pub(crate) revoked: bool,
    pub(crate) expired: bool,
    pub(crate) format: ListedFormat,
    pub(crate) limit: u32,
    pub(crate) offset: u64,
}

/// Which formats of tokens to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ListedFormat {
    Opaque,
    Jwt,
    All,
}

impl ListedFormat {
    /// The word of the API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Jwt => "jwt",
            Self::All => "all",
        }
    }
}

/// What a new token's string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum NewFormat {
    Opaque,
    Jwt,
}

/// What a new token is like.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) format: NewFormat,
    pub(crate) ttl: Option<i64>,
    pub(crate) claims: Option<Claims>,
    pub(crate) min_remaining: Option<i64>,
}

/// An authority that can be administered.
#[async_trait(?Send)]
pub(crate) trait Target {
    async fn machines(&self, page: &MachinePage) -> Result<MachineList, Failure>;
    async fn create_machine(
        &self,
        name: &str,
        calls: &[MachineId],
        ttl: Option<i64>,
    ) -> Result<Machine, Failure>;
    async fn machine(&self, id: MachineId) -> Result<Machine, Failure>;
    async fn update_machine(
        &self,
        id: MachineId,
        name: Option<&str>,
        ttl: Option<i64>,
    ) -> Result<Machine, Failure>;
    async fn delete_machine(&self, id: MachineId) -> Result<DeletedMachine, Failure>;
    async fn machine_key(&self, id: MachineId) -> Result<MachineSecretKey, Failure>;
    async fn rotate_machine_key(
        &self,
        id: MachineId,
        previous_ttl: i64,
    ) -> Result<MachineSecretKey, Failure>;
    async fn create_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure>;
    async fn delete_scope(&self, from: MachineId, to: MachineId) -> Result<MachineScope, Failure>;

    /// Issues a token to `machine`, or to the machine whose key is at hand.
    async fn issue(&self, machine: Option<MachineId>, new: &NewToken) -> Result<M2mToken, Failure>;
    /// Verifies a token as `machine` would, or with the key that is at hand.
    async fn verify(&self, machine: Option<MachineId>, token: &Secret)
    -> Result<M2mToken, Failure>;
    async fn tokens(&self, subject: MachineId, page: &TokenPage) -> Result<M2mTokenList, Failure>;
    async fn revoke_token(&self, id: TokenId, reason: Option<&str>) -> Result<M2mToken, Failure>;
    /// The machine whose key is at hand, where there is no instance key.
    async fn own_machine(&self) -> Result<Option<MachineId>, Failure>;

    async fn signing_keys(&self) -> Result<List<SigningKeyBody>, Failure>;
    async fn rotate_signing_key(&self, is_immediate: bool) -> Result<SigningKeyBody, Failure>;
    async fn delete_signing_key(&self, kid: SigningKeyId) -> Result<Value, Failure>;

    async fn instance(&self) -> Result<InstanceBody, Failure>;
    async fn update_instance(&self, settings: Map<String, Value>) -> Result<InstanceBody, Failure>;
    async fn instance_keys(&self) -> Result<List<InstanceKeyBody>, Failure>;
    async fn create_instance_key(&self, is_live: bool) -> Result<NewInstanceKeyBody, Failure>;
    async fn revoke_instance_key(&self, id: &str) -> Result<Value, Failure>;

    /// Up to 1000 entries of the change log above `after`.
    async fn changes(&self, after: u64) -> Result<Vec<ChangeBody>, Failure>;

    /// Writes what is still in memory.
    async fn finish(&self) -> Result<(), Failure>;
}
