//! An authenticator in software, with the page that it is asked by: it makes passkeys and signs with them as real ones do. A test
//! changes what it says before it says it.

use base64ct::{Base64UrlUnpadded, Encoding};
use minicbor::Encoder;
use p256::ecdsa;
use rsa::BoxedUint;
use rsa::pkcs1v15;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const PRESENT: u8 = 1;
pub const VERIFIED: u8 = 1 << 2;
pub const BACKUP_ELIGIBLE: u8 = 1 << 3;
pub const BACKED_UP: u8 = 1 << 4;
const HAS_CREDENTIAL: u8 = 1 << 6;
pub const HAS_EXTENSIONS: u8 = 1 << 7;

/// Two primes, for tests alone: making some takes seconds.
const PRIMES: &str = include_str!("primes.txt");

pub enum PrivateKey {
    EdDsa(ed25519_dalek::SigningKey),
    Es256(ecdsa::SigningKey),
    Rs256(Box<rsa::PrivateKey>),
}

pub struct Authenticator {
    pub key: PrivateKey,
    /// What it calls the passkey.
    pub id: Vec<u8>,
    /// The user handle that it was given.
    pub user: Vec<u8>,
    pub count: u32,
    /// Of these, only whether a credential follows is set by itself.
    pub flags: u8,
    pub rp_id: String,
    /// Where the page says that it is.
    pub origin: String,
    /// Put behind everything else that the authenticator says.
    pub appendix: Vec<u8>,
    /// Changed in what the browser says.
    pub client: Value,
    /// Format and statement.
    pub attestation: (&'static str, bool),
}

impl Authenticator {
    pub fn new(key: PrivateKey) -> Self {
        Self {
            key,
            id: b"a passkey of tests".to_vec(),
            user: Vec::new(),
            count: 0,
            flags: PRESENT | VERIFIED,
            rp_id: "localhost".to_owned(),
            origin: "http://localhost:3000".to_owned(),
            appendix: Vec::new(),
            client: json!({}),
            attestation: ("none", false),
        }
    }

    pub fn eddsa() -> Self {
        Self::new(PrivateKey::EdDsa(ed25519_dalek::SigningKey::from_bytes(&[7; 32])))
    }

    pub fn es256() -> Self {
        Self::new(PrivateKey::Es256(ecdsa::SigningKey::from_slice(&[7; 32]).expect("a key")))
    }

    pub fn rs256() -> Self {
        let number = |hex: &str| BoxedUint::from_be_slice_vartime(&unhex(hex));
        let [p, q] = PRIMES.lines().map(number).collect::<Vec<_>>().try_into().expect("two lines");
        let key = rsa::PrivateKey::from_p_q(p, q, BoxedUint::from(65537_u32)).expect("a key");
        Self::new(PrivateKey::Rs256(Box::new(key)))
    }

    /// Its public key, as `COSE_Key`.
    pub fn public_key(&self) -> Vec<u8> {
        let mut cbor = Encoder::new(Vec::new());
        let made = match &self.key {
            PrivateKey::EdDsa(key) => okp(&mut cbor, key.verifying_key().as_bytes()),
            PrivateKey::Es256(key) => ec2(&mut cbor, key.verifying_key().to_sec1_point(false).as_bytes()),
            PrivateKey::Rs256(key) => modulus(&mut cbor, &key.n().to_be_bytes_trimmed_vartime()),
        };
        made.expect("a list takes anything");
        cbor.into_writer()
    }

    /// What it says beside the signature: with a new credential, or without.
    pub fn data(&self, with_credential: bool) -> Vec<u8> {
        let mut data = Sha256::digest(self.rp_id.as_bytes()).to_vec();
        data.push(self.flags | if with_credential { HAS_CREDENTIAL } else { 0 });
        data.extend(self.count.to_be_bytes());
        if with_credential {
            data.extend([0; 16]);
            data.extend(u16::try_from(self.id.len()).expect("short").to_be_bytes());
            data.extend(&self.id);
            data.extend(self.public_key());
        }
        data.extend(&self.appendix);
        data
    }

    /// `attestationObject`.
    pub fn attestation(&self) -> Vec<u8> {
        let mut cbor = Encoder::new(Vec::new());
        let (format, has_statement) = self.attestation;
        let write = |cbor: &mut Encoder<Vec<u8>>| {
            cbor.map(3)?.str("fmt")?.str(format)?.str("attStmt")?.map(u64::from(has_statement))?;
            if has_statement {
                cbor.str("alg")?.i64(-7)?;
            }
            cbor.str("authData")?.bytes(&self.data(true))?.ok()
        };
        write(&mut cbor).expect("a list takes anything");
        cbor.into_writer()
    }

    /// `clientDataJSON`, of a challenge in base64url.
    pub fn client_data(&self, kind: &str, challenge: &str) -> Vec<u8> {
        let mut client =
            json!({ "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false });
        for (name, value) in self.client.as_object().expect("an object") {
            client[name] = value.clone();
        }
        client.to_string().into_bytes()
    }

    pub fn sign(&self, data: &[u8], client_data: &[u8]) -> Vec<u8> {
        let message = [data, &Sha256::digest(client_data)].concat();
        match &self.key {
            PrivateKey::EdDsa(key) => key.sign(&message).to_vec(),
            PrivateKey::Es256(key) => {
                let signature: ecdsa::DerSignature = key.sign(&message);
                signature.as_bytes().to_vec()
            }
            PrivateKey::Rs256(key) => {
                pkcs1v15::SigningKey::<Sha256>::new((**key).clone()).sign(&message).to_vec()
            }
        }
    }

    /// Makes a passkey as the options say: `RegistrationResponseJSON`.
    pub fn create(&mut self, options: &Value) -> Value {
        self.user = decode(&options["user"]["id"]);
        let client_data = self.client_data("webauthn.create", options["challenge"].as_str().expect("text"));
        json!({
            "id": encode(&self.id), "rawId": encode(&self.id), "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(&client_data),
                "attestationObject": encode(&self.attestation()),
                "transports": ["internal"],
            },
        })
    }

    /// Signs in as the options say: `AuthenticationResponseJSON`.
    pub fn get(&self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.get", options["challenge"].as_str().expect("text"));
        let data = self.data(false);
        json!({
            "id": encode(&self.id), "rawId": encode(&self.id), "type": "public-key",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(&client_data),
                "authenticatorData": encode(&data),
                "signature": encode(&self.sign(&data, &client_data)),
                "userHandle": encode(&self.user),
            },
        })
    }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn okp(cbor: &mut Encoder<Vec<u8>>, point: &[u8]) -> Written {
    cbor.map(4)?.i8(1)?.i8(1)?.i8(3)?.i8(-8)?.i8(-1)?.i8(6)?.i8(-2)?.bytes(point)?.ok()
}

fn ec2(cbor: &mut Encoder<Vec<u8>>, point: &[u8]) -> Written {
    let (x, y) = point[1..].split_at(32);
    cbor.map(5)?.i8(1)?.i8(2)?.i8(3)?.i8(-7)?.i8(-1)?.i8(1)?;
    cbor.i8(-2)?.bytes(x)?.i8(-3)?.bytes(y)?.ok()
}

fn modulus(cbor: &mut Encoder<Vec<u8>>, n: &[u8]) -> Written {
    cbor.map(4)?.i8(1)?.i8(3)?.i8(3)?.i16(-257)?.i8(-1)?.bytes(n)?.i8(-2)?.bytes(&[1, 0, 1])?.ok()
}

pub fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn decode(text: &Value) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text.as_str().expect("text")).expect("base64url")
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}
