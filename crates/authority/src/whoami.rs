//! Identifies callers by the credential that they present.

use countersign_protocol::body::M2mToken;
use countersign_protocol::ids::{InstanceId, KeyId, MachineId};
use countersign_protocol::jwt::looks_like_jwt;
use countersign_protocol::scopes::Scopes;
use countersign_protocol::secret::{InstanceKey, MachineKey, TokenString};

use crate::Authority;
use crate::actor::{Accepts, Role};
use crate::error::{Error, instance_not_found};

/// What a credential identifies.
#[derive(Clone, Debug, PartialEq)]
pub enum WhoAmI {
    /// A key of an instance.
    Instance {
        /// The instance.
        instance_id: InstanceId,
        /// The key.
        key_id: KeyId,
        /// The instance's name.
        name: String,
    },
    /// A key of a machine.
    Machine {
        /// The machine's instance.
        instance_id: InstanceId,
        /// The machine.
        machine_id: MachineId,
        /// The machine's name.
        name: String,
        /// The machines that it may call.
        may_call: Scopes,
    },
    /// A live token, for any receivers.
    Token {
        /// The token.
        token: M2mToken,
    },
}

impl Authority {
    /// Identifies `credential`: an instance key, a machine key or a token. Presenting a token here counts as a use of
    /// it.
    ///
    /// # Errors
    /// [`Error::InstanceKeyInvalid`], [`Error::MachineKeyInvalid`], [`Error::TokenRefused`], [`Error::CredentialMalformed`],
    /// [`Error::RateLimited`], or the store's error.
    pub async fn whoami(&self, credential: &str) -> Result<WhoAmI, Error> {
        let is_key = credential.starts_with(InstanceKey::PREFIX)
            || credential.starts_with(MachineKey::PREFIX);
        if is_key {
            return self.whose_key(credential).await;
        }
        if credential.starts_with(TokenString::PREFIX) || looks_like_jwt(credential) {
            let token = self.verify_own(credential).await?;
            return Ok(WhoAmI::Token { token });
        }
        Err(Error::CredentialMalformed)
    }

    async fn whose_key(&self, credential: &str) -> Result<WhoAmI, Error> {
        let actor = self.authenticate(credential, Accepts::Any).await?;
        let instance_id = actor.instance_id();
        match actor.role() {
            Role::Instance(key) => Ok(WhoAmI::Instance {
                instance_id,
                key_id: key.id,
                name: actor.instance().name.clone(),
            }),
            Role::Machine { machine, .. } => Ok(WhoAmI::Machine {
                instance_id,
                machine_id: machine.id,
                name: machine.name.clone(),
                may_call: machine.scopes.clone(),
            }),
            // Presenting a key never makes the caller the operator.
            Role::Operator => Err(instance_not_found(instance_id)),
        }
    }
}
