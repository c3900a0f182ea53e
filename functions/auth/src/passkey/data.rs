//! What an authenticator says: its data, which is bytes at fixed places, and the attestation object around them, which is CBOR.

use super::Refused;
use minicbor::Decoder;
use minicbor::data::Type;

/// Bytes of a credential's id at most, by the standard.
pub const CREDENTIAL_ID_BYTES_MAX: usize = 1023;
/// Bytes of SHA-256.
const HASH_BYTES: usize = 32;
/// Bytes of the id of an authenticator's model, which nobody here asks for.
const MODEL_BYTES: usize = 16;

/// Somebody touched it.
const USER_PRESENT: u8 = 1;
/// It knows that this was its owner, by a finger, a face or a PIN.
const USER_VERIFIED: u8 = 1 << 2;
/// The passkey may be copied to other devices of its owner.
const BACKUP_ELIGIBLE: u8 = 1 << 3;
/// It has been.
const BACKED_UP: u8 = 1 << 4;
/// A credential follows.
const HAS_CREDENTIAL: u8 = 1 << 6;
/// Extensions follow.
const HAS_EXTENSIONS: u8 = 1 << 7;

/// An authenticator's data.
#[derive(Debug)]
pub struct AuthenticatorData<'a> {
    /// SHA-256 of the id that the browser let the page use.
    pub rp_id_hash: &'a [u8],
    /// How often the passkey was used, or zero where it does not count.
    pub sign_count: u32,
    /// What a new passkey is.
    pub credential: Option<Credential<'a>>,
    flags: u8,
}

/// A passkey that was just made.
#[derive(Debug)]
pub struct Credential<'a> {
    /// The name that its authenticator gave it.
    pub id: &'a [u8],
    /// A `COSE_Key`.
    pub public_key: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    /// Reads it to its end.
    ///
    /// # Errors
    /// Something is missing, or something is left over.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refused> {
        let mut rest = bytes;
        let rp_id_hash = take(&mut rest, HASH_BYTES)?;
        let flags = take(&mut rest, 1)?[0];
        let sign_count = take(&mut rest, 4)?.try_into().map_err(|_| Refused::Malformed)?;
        let credential = match flags & HAS_CREDENTIAL {
            0 => None,
            _ => Some(credential(&mut rest)?),
        };
        if flags & HAS_EXTENSIONS != 0 {
            let extensions = one_map(rest)?;
            take(&mut rest, extensions)?;
        }
        if !rest.is_empty() {
            return Err(Refused::Malformed);
        }
        Ok(Self { rp_id_hash, sign_count: u32::from_be_bytes(sign_count), credential, flags })
    }

    /// Checks that its owner was there and was recognised, and that it does not contradict itself.
    ///
    /// # Errors
    /// Which of these is not so.
    pub fn check_flags(&self) -> Result<(), Refused> {
        if self.flags & USER_PRESENT == 0 {
            return Err(Refused::NotPresent);
        }
        if self.flags & USER_VERIFIED == 0 {
            return Err(Refused::NotVerified);
        }
        if self.flags & BACKED_UP != 0 && !self.backup_eligible() {
            return Err(Refused::Backup);
        }
        Ok(())
    }

    /// Whether the passkey may be copied to other devices, which never changes.
    #[must_use]
    pub fn backup_eligible(&self) -> bool {
        self.flags & BACKUP_ELIGIBLE != 0
    }
}

/// The authenticator's data within an attestation object. Attestation is not asked for, and what there is of it says nothing that
/// would be believed here; only that "none" is nothing is checked.
///
/// # Errors
/// It is no such object.
pub fn of_attestation(object: &[u8]) -> Result<&[u8], Refused> {
    let mut decoder = Decoder::new(object);
    let (mut format, mut statement, mut data) = (None, None, None);
    for _ in 0..fields(&mut decoder)? {
        match decoder.str().map_err(malformed)? {
            "fmt" if format.is_none() => format = Some(decoder.str().map_err(malformed)?),
            "attStmt" if statement.is_none() => {
                let start = decoder.position();
                statement = Some(fields(&mut decoder)?);
                decoder.set_position(start);
                decoder.skip().map_err(malformed)?;
            }
            "authData" if data.is_none() => data = Some(decoder.bytes().map_err(malformed)?),
            _ => return Err(Refused::Malformed),
        }
    }
    if decoder.position() != object.len() {
        return Err(Refused::Malformed);
    }
    match (format, statement, data) {
        (Some("none"), Some(1..), _) | (None, _, _) | (_, None, _) => Err(Refused::Malformed),
        (Some(_), Some(_), data) => data.ok_or(Refused::Malformed),
    }
}

fn credential<'a>(rest: &mut &'a [u8]) -> Result<Credential<'a>, Refused> {
    take(rest, MODEL_BYTES)?;
    let length = take(rest, 2)?.try_into().map_err(|_| Refused::Malformed)?;
    let length = usize::from(u16::from_be_bytes(length));
    if !(1..=CREDENTIAL_ID_BYTES_MAX).contains(&length) {
        return Err(Refused::CredentialId);
    }
    let id = take(rest, length)?;
    let public_key = one_map(rest)?;
    Ok(Credential { id, public_key: take(rest, public_key)? })
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Refused> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or(Refused::Malformed)?;
    *rest = left;
    Ok(taken)
}

/// How many bytes the map takes that these begin with.
fn one_map(bytes: &[u8]) -> Result<usize, Refused> {
    let mut decoder = Decoder::new(bytes);
    if !matches!(decoder.datatype(), Ok(Type::Map)) {
        return Err(Refused::Malformed);
    }
    decoder.skip().map_err(malformed)?;
    Ok(decoder.position())
}

/// How many fields the map has that comes next. Authenticators say it before the first one.
pub(super) fn fields(decoder: &mut Decoder<'_>) -> Result<u64, Refused> {
    decoder.map().map_err(malformed)?.ok_or(Refused::Malformed)
}

pub(super) fn malformed(_: minicbor::decode::Error) -> Refused {
    Refused::Malformed
}
