//! Ids and lists of ids: nothing panics, and what is read is written as it came.
#![no_main]

use countersign_protocol::ids::{InstanceId, MachineId, SigningKeyId, TokenId};
use countersign_protocol::scopes::Scopes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<MachineId>() {
        assert_eq!(id.as_str(), text);
        assert!(text.parse::<InstanceId>().is_err());
    }
    if let Ok(id) = text.parse::<SigningKeyId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<TokenId>() {
        assert!(TokenId::is_well_formed(text));
        assert_eq!(id.to_string(), text);
        assert_eq!(
            serde_json::to_string(&id).expect("serializes"),
            format!("\"{text}\"")
        );
    }
    if let Ok(scopes) = Scopes::parse(text) {
        assert_eq!(scopes.as_str(), text);
        assert_eq!(scopes.iter().count(), scopes.len());
        for part in scopes.iter() {
            let id: MachineId = part.parse().expect("a list of ids");
            assert!(scopes.contains(&id));
        }
    }
});
