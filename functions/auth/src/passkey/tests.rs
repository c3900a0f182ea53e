//! Each check of a passkey, seen refusing: what an authenticator or a page gets wrong, or somebody made up.

use super::authenticator::{
    Authenticator, BACKED_UP, BACKUP_ELIGIBLE, HAS_EXTENSIONS, PRESENT, VERIFIED, encode,
};
use super::testing::{keys, signer};
use super::*;
use minicbor::Encoder;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

const ADA: Owner = Owner { account_id: Uuid::from_u128(7), login_id: Uuid::from_u128(70) };
const BOB: Owner = Owner { account_id: Uuid::from_u128(8), login_id: Uuid::from_u128(80) };

fn site() -> Site {
    Site::new("localhost", "http://localhost:3000").unwrap()
}

fn challenge(purpose: Purpose) -> String {
    challenge::new(&signer(), purpose).unwrap()
}

/// A new passkey of Ada's, as its authenticator has it and with something changed.
fn made(authenticator: &Authenticator) -> Result<New, Refused> {
    let client_data = authenticator.client_data("webauthn.create", &challenge(Purpose::Add(ADA)));
    made_of(&client_data, &authenticator.attestation())
}

fn made_of(client_data: &[u8], attestation: &[u8]) -> Result<New, Refused> {
    check_new(&site(), &keys(), ADA, Made { client_data, attestation })
}

/// What is kept of Ada's passkey.
fn known(authenticator: &Authenticator) -> Known {
    Known {
        account_id: ADA.account_id,
        public_key: authenticator.public_key(),
        sign_count: 0,
        backup_eligible: false,
    }
}

/// Signs in with Ada's passkey, as its authenticator says.
fn signed(known: &Known, authenticator: &Authenticator) -> Result<Accepted, Refused> {
    signed_for(Purpose::SignIn, known, authenticator)
}

/// As [`signed`], with a challenge that was made for this.
fn signed_for(purpose: Purpose, known: &Known, authenticator: &Authenticator) -> Result<Accepted, Refused> {
    let client_data = authenticator.client_data("webauthn.get", &challenge(purpose));
    let authenticator_data = authenticator.data(false);
    let signature = authenticator.sign(&authenticator_data, &client_data);
    let signed = Signed {
        client_data: &client_data,
        authenticator_data: &authenticator_data,
        signature: &signature,
        user_handle: Some(ADA.account_id.as_bytes()),
    };
    check_signed(&site(), &keys(), Some(known), signed)
}

fn all() -> [Authenticator; 3] {
    [Authenticator::eddsa(), Authenticator::es256(), Authenticator::rs256()]
}

#[test]
fn a_passkey_of_each_algorithm_is_made_and_signs_in() {
    for authenticator in all() {
        let new = made(&authenticator).unwrap();
        assert_eq!(new.credential_id, authenticator.id);
        assert_eq!(new.public_key, authenticator.public_key());
        assert_eq!((new.sign_count, new.backup_eligible), (0, false));
        assert_eq!(signed(&known(&authenticator), &authenticator).unwrap().sign_count, 0);
    }
}

#[test]
fn no_key_checks_what_another_one_signed() {
    let mut others = all();
    others[1].key = {
        let key = p256::ecdsa::SigningKey::from_slice(&[8; 32]).unwrap();
        super::authenticator::PrivateKey::Es256(key)
    };
    for authenticator in all() {
        for other in &others {
            if other.public_key() == authenticator.public_key() {
                continue;
            }
            assert_eq!(signed(&known(&authenticator), other), Err(Refused::Signature));
        }
    }
}

/// A change of what an authenticator says, and why it is refused then.
type Fault = (&'static str, fn(&mut Authenticator), Refused);

/// What is wrong with a new passkey and with one that signs in alike.
const FAULTS: [Fault; 11] = [
    ("another type", |it| it.client = json!({ "type": "payment.get" }), Refused::Type),
    ("a challenge of nobody's", |it| it.client = json!({ "challenge": "AAAA" }), Refused::Challenge),
    ("another origin", |it| it.origin = "http://localhost:3001".to_owned(), Refused::Origin),
    ("another scheme", |it| it.origin = "https://localhost:3000".to_owned(), Refused::Origin),
    ("within another page", |it| it.client = json!({ "crossOrigin": true }), Refused::Framed),
    ("below another page", |it| it.client = json!({ "topOrigin": "https://evil.example" }), Refused::Framed),
    ("another site", |it| it.rp_id = "evil.example".to_owned(), Refused::RelyingParty),
    ("nobody there", |it| it.flags = VERIFIED, Refused::NotPresent),
    ("anybody there", |it| it.flags = PRESENT, Refused::NotVerified),
    ("copied, and cannot be", |it| it.flags |= BACKED_UP, Refused::Backup),
    ("something left over", |it| it.appendix = vec![0], Refused::Malformed),
];

#[test]
fn what_is_wrong_is_refused_for_its_own_reason() {
    for (what, fault, refused) in FAULTS {
        for mut authenticator in all() {
            fault(&mut authenticator);
            assert_eq!(made(&authenticator), Err(refused), "{what}, made");
            assert_eq!(signed(&known(&authenticator), &authenticator), Err(refused), "{what}, signed in");
        }
    }
}

#[test]
fn a_challenge_counts_for_its_purpose_and_login_alone() {
    let authenticator = Authenticator::es256();
    for purpose in [Purpose::SignIn, Purpose::Add(BOB)] {
        let client_data = authenticator.client_data("webauthn.create", &challenge(purpose));
        assert_eq!(
            made_of(&client_data, &authenticator.attestation()),
            Err(Refused::Challenge),
            "{purpose:?}"
        );
    }
    let signed = signed_for(Purpose::Add(ADA), &known(&authenticator), &authenticator);
    assert_eq!(signed, Err(Refused::Challenge));
}

#[test]
fn client_data_that_is_no_object_is_refused() {
    let authenticator = Authenticator::es256();
    let list = json!(["webauthn.create", challenge(Purpose::Add(ADA)), "http://localhost:3000", null, null]);
    for client_data in ["", "{", "{}", "null", &list.to_string()] {
        let found = made_of(client_data.as_bytes(), &authenticator.attestation());
        assert_eq!(found, Err(Refused::Malformed), "{client_data}");
    }
}

#[test]
fn who_signs_in_is_who_the_passkey_was_made_for_and_nobody_unknown() {
    let authenticator = Authenticator::es256();
    let client_data = authenticator.client_data("webauthn.get", &challenge(Purpose::SignIn));
    let authenticator_data = authenticator.data(false);
    let signature = authenticator.sign(&authenticator_data, &client_data);
    let known = known(&authenticator);
    let ask = |known: Option<&Known>, user_handle: Option<&[u8]>, signature: &[u8]| {
        let (client_data, authenticator_data) = (client_data.as_slice(), authenticator_data.as_slice());
        let signed = Signed { client_data, authenticator_data, signature, user_handle };
        check_signed(&site(), &keys(), known, signed).map(|accepted| accepted.sign_count)
    };
    let ada = Some(ADA.account_id.as_bytes().as_slice());
    assert_eq!(ask(Some(&known), ada, &signature), Ok(0), "refused below for its own fault");
    assert_eq!(ask(None, ada, &signature), Err(Refused::Unknown));
    for other in [None, Some(BOB.account_id.as_bytes().as_slice()), Some(&[])] {
        assert_eq!(ask(Some(&known), other, &signature), Err(Refused::Owner), "{other:?}");
    }
    for forged in [&[][..], &signature[1..], &[0; 64], &[0x30, 6, 2, 1, 0, 2, 1, 0]] {
        assert_eq!(ask(Some(&known), ada, forged), Err(Refused::Signature), "{forged:?}");
    }
}

#[test]
fn a_signature_covers_all_that_was_said() {
    for authenticator in all() {
        let known = known(&authenticator);
        let client_data = authenticator.client_data("webauthn.get", &challenge(Purpose::SignIn));
        let other_client_data = authenticator.client_data("webauthn.get", &challenge(Purpose::SignIn));
        let data = authenticator.data(false);
        let mut other_data = data.clone();
        *other_data.last_mut().unwrap() = 9;
        let signature = authenticator.sign(&data, &client_data);
        for (authenticator_data, client_data) in [(&data, &other_client_data), (&other_data, &client_data)] {
            let signed = Signed {
                client_data,
                authenticator_data,
                signature: &signature,
                user_handle: Some(ADA.account_id.as_bytes()),
            };
            assert_eq!(check_signed(&site(), &keys(), Some(&known), signed), Err(Refused::Signature));
        }
    }
}

#[test]
fn a_counter_rises_or_stays_at_zero() {
    for (kept, comes, expected) in [
        (0, 0, Ok(0)),
        (0, 1, Ok(1)),
        (5, 6, Ok(6)),
        (5, u32::MAX, Ok(i64::from(u32::MAX))),
        (5, 5, Err(Refused::Counter)),
        (5, 4, Err(Refused::Counter)),
        (5, 0, Err(Refused::Counter)),
    ] {
        let mut authenticator = Authenticator::es256();
        authenticator.count = comes;
        let known = Known { sign_count: kept, ..known(&authenticator) };
        let found = signed(&known, &authenticator).map(|accepted| accepted.sign_count);
        assert_eq!(found, expected, "{comes} after {kept}");
    }
}

#[test]
fn whether_a_passkey_may_be_copied_does_not_change() {
    let mut authenticator = Authenticator::es256();
    authenticator.flags |= BACKUP_ELIGIBLE | BACKED_UP;
    assert!(made(&authenticator).unwrap().backup_eligible);
    assert_eq!(signed(&known(&authenticator), &authenticator), Err(Refused::Backup));
    let known = Known { backup_eligible: true, ..known(&authenticator) };
    assert!(signed(&known, &authenticator).is_ok());
    authenticator.flags = PRESENT | VERIFIED;
    assert_eq!(signed(&known, &authenticator), Err(Refused::Backup));
}

#[test]
fn extensions_are_read_over_and_nothing_else_is() {
    let mut authenticator = Authenticator::es256();
    authenticator.flags |= HAS_EXTENSIONS;
    // {"credProtect": 2}
    authenticator.appendix = [&[0xa1, 0x6b][..], b"credProtect", &[2]].concat();
    assert!(made(&authenticator).is_ok());
    assert!(signed(&known(&authenticator), &authenticator).is_ok());
    for broken in [&[][..], &[1], &[0xa1], &[0xa1, 0x61], &[0xa0, 0], &[0xbf]] {
        authenticator.appendix = broken.to_vec();
        assert_eq!(made(&authenticator), Err(Refused::Malformed), "{broken:?}");
    }
}

#[test]
fn data_that_breaks_off_anywhere_is_refused() {
    for authenticator in all() {
        let client_data = authenticator.client_data("webauthn.create", &challenge(Purpose::Add(ADA)));
        let whole = authenticator.attestation();
        for end in 0..whole.len() {
            assert_eq!(made_of(&client_data, &whole[..end]), Err(Refused::Malformed), "{end}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(made_of(&client_data, &longer), Err(Refused::Malformed));
        let data = authenticator.data(true);
        for end in 0..data.len() {
            assert!(AuthenticatorData::read(&data[..end]).is_err(), "{end}");
        }
    }
}

#[test]
fn a_statement_nobody_asked_for_is_not_looked_at_but_none_is_nothing() {
    let mut authenticator = Authenticator::es256();
    authenticator.attestation = ("packed", true);
    assert!(made(&authenticator).is_ok());
    authenticator.attestation = ("none", true);
    assert_eq!(made(&authenticator), Err(Refused::Malformed));
}

#[test]
fn a_passkey_has_an_id_of_a_length_that_the_standard_allows() {
    let mut authenticator = Authenticator::es256();
    authenticator.id = vec![1; data::CREDENTIAL_ID_BYTES_MAX];
    assert!(made(&authenticator).is_ok());
    for length in [0, data::CREDENTIAL_ID_BYTES_MAX + 1] {
        authenticator.id = vec![1; length];
        assert_eq!(made(&authenticator), Err(Refused::CredentialId), "{length}");
    }
    let data = authenticator.data(false);
    let mut cbor = Encoder::new(Vec::new());
    let written = cbor.map(3).and_then(|cbor| cbor.str("fmt")?.str("none")?.str("attStmt")?.map(0));
    written.and_then(|cbor| cbor.str("authData")?.bytes(&data)).unwrap();
    let client_data = authenticator.client_data("webauthn.create", &challenge(Purpose::Add(ADA)));
    assert_eq!(made_of(&client_data, &cbor.into_writer()), Err(Refused::NoCredential));
}

/// A `COSE_Key` of these labels: numbers, and bytes.
fn cose(numbers: &[(i64, i64)], bytes: &[(i64, &[u8])]) -> Vec<u8> {
    let mut cbor = Encoder::new(Vec::new());
    cbor.map((numbers.len() + bytes.len()) as u64).unwrap();
    for (label, value) in numbers {
        cbor.i64(*label).unwrap().i64(*value).unwrap();
    }
    for (label, value) in bytes {
        cbor.i64(*label).unwrap().bytes(value).unwrap();
    }
    cbor.into_writer()
}

#[test]
fn a_key_is_of_an_algorithm_that_was_asked_for_and_is_one() {
    const E: &[u8] = &[1, 0, 1];
    let point = {
        let cose = Authenticator::es256().public_key();
        let (x, y) = (cose[10..42].to_vec(), cose[45..77].to_vec());
        (x, y)
    };
    let (x, y) = (point.0.as_slice(), point.1.as_slice());
    let wrong = [y, x].concat();
    let modulus = [&[0xc5][..], &[0x55; 254], &[1]].concat();
    let long = [&[0xc5][..], &[0x55; 512], &[1]].concat();
    let (okp, ec2, rsa) = ([(1, 1), (3, -8), (-1, 6)], [(1, 2), (3, -7), (-1, 1)], [(1, 3), (3, -257)]);
    let read = |numbers: &[(i64, i64)], bytes: &[(i64, &[u8])]| Key::read(&cose(numbers, bytes)).err();
    assert_eq!(read(&ec2, &[(-2, x), (-3, y)]), None, "refused below for its own fault");
    assert_eq!(read(&rsa, &[(-1, &modulus), (-2, E)]), None, "refused below for its own fault");
    assert_eq!(read(&[(1, 2), (3, -7), (-1, 1), (2, 7)], &[(-2, x), (-3, y)]), None, "more is said of it");
    for (what, numbers, bytes, refused) in [
        ("nothing", &[][..], &[][..], Refused::Algorithm),
        ("ES384", &[(1, 2), (3, -35), (-1, 2)], &[(-2, x), (-3, y)], Refused::Algorithm),
        ("another curve", &[(1, 2), (3, -7), (-1, 8)], &[(-2, x), (-3, y)], Refused::Key),
        ("another type", &[(1, 1), (3, -7), (-1, 1)], &[(-2, x), (-3, y)], Refused::Key),
        ("no y", &ec2, &[(-2, x)], Refused::Key),
        ("off the curve", &ec2, &[(-2, y), (-3, x)], Refused::Key),
        ("too long", &ec2, &[(-2, &wrong), (-3, y)], Refused::Key),
        ("short", &okp, &[(-2, &x[1..])], Refused::Key),
        ("weak", &okp, &[(-2, &[0; 32])], Refused::Key),
        ("two moduli", &rsa, &[(-1, &modulus), (-1, &modulus), (-2, E)], Refused::Malformed),
        ("two algorithms", &[(1, 2), (3, -7), (3, -8), (-1, 1)], &[(-2, x), (-3, y)], Refused::Malformed),
        ("1024 bits", &rsa, &[(-1, &modulus[..128]), (-2, E)], Refused::Key),
        ("4112 bits", &rsa, &[(-1, &long), (-2, E)], Refused::Key),
        ("exponent 3", &rsa, &[(-1, &modulus), (-2, &[3])], Refused::Key),
    ] {
        assert_eq!(read(numbers, bytes), Some(refused), "{what}");
    }
    assert!(!Key::nobody().unwrap().verifies(b"anything", &Authenticator::es256().sign(b"any", b"thing")));
    assert_eq!(encode(&x[..0]), "");
}

proptest! {
    /// Whatever comes is read or refused.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let _ = AuthenticatorData::read(&bytes).map(|data| data.check_flags());
        let _ = data::of_attestation(&bytes);
        let _ = Key::read(&bytes);
    }

    /// So is what is nearly right.
    #[test]
    fn a_changed_byte_is_read_or_refused(at in 0..1000_usize, byte in any::<u8>(), which in 0..3_usize) {
        let authenticator = &all()[which];
        let client_data = authenticator.client_data("webauthn.create", &challenge(Purpose::Add(ADA)));
        let mut attestation = authenticator.attestation();
        let at = at % attestation.len();
        attestation[at] = byte;
        if let Ok(new) = made_of(&client_data, &attestation) {
            prop_assert!(Key::read(&new.public_key).is_ok());
        }
    }

    /// What is written is read.
    #[test]
    fn what_an_authenticator_says_is_read(id in vec(any::<u8>(), 1..200), count in any::<u32>()) {
        let mut authenticator = Authenticator::es256();
        (authenticator.id, authenticator.count) = (id, count);
        let new = made(&authenticator).unwrap();
        prop_assert_eq!((&new.credential_id, new.sign_count), (&authenticator.id, i64::from(count)));
    }
}
