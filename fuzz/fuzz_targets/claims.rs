//! Claims: what is accepted is stored, read back and compared without a difference.
#![no_main]

use countersign_protocol::claims::Claims;
use countersign_protocol::limits::MAX_CLAIMS_BYTES;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<&RawValue>(bytes) else {
        return;
    };
    let Ok(Some(claims)) = Claims::new(value) else {
        return;
    };
    assert!(claims.as_str().len() <= MAX_CLAIMS_BYTES);
    let stored = Claims::from_stored(claims.as_str().to_owned())
        .expect("what was accepted can be read back");
    let stored = stored.expect("no claims are never stored");
    assert_eq!(stored.as_str(), claims.as_str());
    assert_eq!(stored, claims);
    if claims.is_object() {
        let names = claims
            .names()
            .expect("the members of accepted claims have names");
        assert_eq!(names.is_empty(), claims.as_str() == "{}");
        for name in names {
            assert!(claims.may_have_member(&name));
            let _ = claims.text_member(&name);
        }
    }
});
