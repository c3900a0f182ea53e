//! Mails about accounts, which `auth` asks `notify` for.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a mail about an account says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountMail {
    /// Somebody registered with this address; its token confirms that the reader did.
    ConfirmAddress,
    /// Somebody tried to register with this address, which has an account.
    AddressTaken,
    /// Somebody has forgotten the password; its token sets another one.
    ResetPassword,
    /// The password is another one now.
    PasswordChanged,
}

impl AccountMail {
    /// Every mail.
    pub const ALL: [Self; 4] =
        [Self::ConfirmAddress, Self::AddressTaken, Self::ResetPassword, Self::PasswordChanged];

    /// The name used in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmAddress => "CONFIRM_ADDRESS",
            Self::AddressTaken => "ADDRESS_TAKEN",
            Self::ResetPassword => "RESET_PASSWORD",
            Self::PasswordChanged => "PASSWORD_CHANGED",
        }
    }
}

/// `mail.requested`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MailRequested {
    /// The account it is about.
    pub user_id: Uuid,
    /// Where it goes to.
    pub email: String,
    /// What it says.
    pub mail: AccountMail,
    /// What its link carries; good once and until `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When the token expires, in seconds since 1970. Nobody needs it afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}
