//! Public keys of passkeys: three algorithms, read from `COSE_Key` (RFC 9052), and the check of a signature.

use super::Refused;
use super::data::{fields, malformed};
use ed25519_dalek as ed25519;
use minicbor::Decoder;
use minicbor::data::Type;
use p256::ecdsa;
use p256::ecdsa::signature::Verifier as _;
use rsa::BoxedUint;
use rsa::pkcs1v15;
use sha2::Sha256;

/// `EdDSA` with Ed25519.
pub const EDDSA: i64 = -8;
/// ECDSA with P-256 and SHA-256: what nearly all authenticators have.
pub const ES256: i64 = -7;
/// RSASSA-PKCS1-v1_5 with SHA-256: what Windows keeps in older TPMs.
pub const RS256: i64 = -257;
/// What is asked for, the most wanted first.
pub const ALGORITHMS: [i64; 3] = [EDDSA, ES256, RS256];

/// Bits of an RSA modulus. Larger ones take a caller's choice of time to check.
const RSA_BITS_MIN: usize = 2048;
/// See above.
const RSA_BITS_MAX: usize = 4096;
/// 65537, the exponent that everybody uses.
const RSA_EXPONENT: &[u8] = &[1, 0, 1];

/// `kty` of RFC 9053: a point on an Edwards curve, on a Weierstrass curve, and an RSA modulus.
const OKP: i64 = 1;
const EC2: i64 = 2;
const RSA: i64 = 3;
/// `crv` of RFC 9053.
const P256: i64 = 1;
const ED25519: i64 = 6;

/// A public key that a signature can be checked with.
#[derive(Debug)]
pub struct Key(Kind);

#[derive(Debug)]
enum Kind {
    EdDsa(ed25519::VerifyingKey),
    Es256(ecdsa::VerifyingKey),
    Rs256(Box<pkcs1v15::VerifyingKey<Sha256>>),
}

/// The labels of a `COSE_Key` that any of the algorithms has.
#[derive(Default)]
struct Labels<'a> {
    kty: Option<i64>,
    alg: Option<i64>,
    /// -1 as a number, and as bytes.
    curve: Option<i64>,
    modulus: Option<&'a [u8]>,
    /// -2 and -3.
    x: Option<&'a [u8]>,
    y: Option<&'a [u8]>,
}

impl Key {
    /// Reads a key. What decides how a signature is checked is the key that was kept, never what signs in.
    ///
    /// # Errors
    /// It is no `COSE_Key`, of an algorithm that was not asked for, or no key of that algorithm.
    pub fn read(cose: &[u8]) -> Result<Self, Refused> {
        let labels = Labels::read(cose)?;
        let kind = match (labels.kty, labels.alg, labels.curve) {
            (Some(OKP), Some(EDDSA), Some(ED25519)) => Kind::EdDsa(labels.ed25519()?),
            (Some(EC2), Some(ES256), Some(P256)) => Kind::Es256(labels.p256()?),
            (Some(RSA), Some(RS256), None) => Kind::Rs256(Box::new(labels.rsa()?)),
            (_, Some(EDDSA | ES256 | RS256), _) => return Err(Refused::Key),
            _ => return Err(Refused::Algorithm),
        };
        Ok(Self(kind))
    }

    /// A key that nobody has signed with, to be checked in place of one that is not known, so that the time of the answer does not
    /// tell: it is the curve's generator.
    #[must_use]
    pub fn nobody() -> Option<Self> {
        let key = ecdsa::VerifyingKey::from_affine(p256::AffinePoint::GENERATOR).ok()?;
        Some(Self(Kind::Es256(key)))
    }

    /// Whether this key made this signature of this message.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::EdDsa(key) => ed25519::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Kind::Es256(key) => ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::Rs256(key) => pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

impl<'a> Labels<'a> {
    fn read(cose: &'a [u8]) -> Result<Self, Refused> {
        let mut decoder = Decoder::new(cose);
        let mut labels = Self::default();
        for _ in 0..fields(&mut decoder)? {
            let label = decoder.i64().map_err(malformed)?;
            let is_bytes = decoder.datatype().map_err(malformed)? == Type::Bytes;
            match label {
                1 => once(&mut labels.kty, decoder.i64())?,
                3 => once(&mut labels.alg, decoder.i64())?,
                -1 if is_bytes => once(&mut labels.modulus, decoder.bytes())?,
                -1 => once(&mut labels.curve, decoder.i64())?,
                -2 => once(&mut labels.x, decoder.bytes())?,
                -3 => once(&mut labels.y, decoder.bytes())?,
                // A key id or the like, which changes nothing.
                _ => decoder.skip().map_err(malformed)?,
            }
        }
        if decoder.position() == cose.len() { Ok(labels) } else { Err(Refused::Malformed) }
    }

    fn ed25519(&self) -> Result<ed25519::VerifyingKey, Refused> {
        let bytes = self.x.and_then(|x| x.try_into().ok()).ok_or(Refused::Key)?;
        let key = ed25519::VerifyingKey::from_bytes(bytes).map_err(|_| Refused::Key)?;
        // Of a weak key many signatures are good for many messages.
        if key.is_weak() { Err(Refused::Key) } else { Ok(key) }
    }

    fn p256(&self) -> Result<ecdsa::VerifyingKey, Refused> {
        const COORDINATE_BYTES: usize = 32;
        let coordinate = |bytes: Option<&'a [u8]>| bytes.filter(|bytes| bytes.len() == COORDINATE_BYTES);
        let (x, y) = coordinate(self.x).zip(coordinate(self.y)).ok_or(Refused::Key)?;
        // 4 says that both coordinates follow; that the point is on the curve is checked.
        ecdsa::VerifyingKey::from_sec1_bytes(&[&[4], x, y].concat()).map_err(|_| Refused::Key)
    }

    fn rsa(&self) -> Result<pkcs1v15::VerifyingKey<Sha256>, Refused> {
        let modulus = self.modulus.filter(|bytes| bytes.len() * 8 <= RSA_BITS_MAX).ok_or(Refused::Key)?;
        if self.x != Some(RSA_EXPONENT) {
            return Err(Refused::Key);
        }
        let [n, e] = [modulus, RSA_EXPONENT].map(BoxedUint::from_be_slice_vartime);
        let key = rsa::PublicKey::new_with_size_limits(n, e, RSA_BITS_MIN..=RSA_BITS_MAX);
        key.map(pkcs1v15::VerifyingKey::new).map_err(|_| Refused::Key)
    }
}

/// A label that comes twice leaves open which of them counts.
fn once<T>(place: &mut Option<T>, value: Result<T, minicbor::decode::Error>) -> Result<(), Refused> {
    match place.replace(value.map_err(malformed)?) {
        None => Ok(()),
        Some(_) => Err(Refused::Malformed),
    }
}
