//! What a notification says. Pure.

use contract::event::{AccountMail, Notice};
use uuid::Uuid;

/// Characters that fit one SMS.
pub const SMS_CHARS_MAX: usize = 160;

/// The texts of one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The subject of the e-mail, and all of the log's line.
    pub subject: &'static str,
    /// The text of the e-mail.
    pub email_text: String,
    /// The text of the SMS, within [`SMS_CHARS_MAX`].
    pub sms_text: String,
}

/// What is told about an order. The reason reaches only the e-mail: it may be long, and an SMS is not.
#[must_use]
pub fn render(notice: Notice, order_id: Uuid, reason: Option<&str>) -> Notification {
    let subject = match notice {
        Notice::Confirmed => "Your order is confirmed!",
        Notice::Rejected => "Your order was rejected.",
        Notice::PaymentFailed => "The payment for your order failed.",
        Notice::Cancelled => "Your order is cancelled.",
        Notice::Expired => "Your order could not be completed in time.",
        Notice::Refunded => "The payment for your order was refunded.",
    };
    let what_follows = match notice {
        Notice::Confirmed => "We are packing it now.",
        Notice::Rejected => "We could not deliver it, and nothing was charged.",
        Notice::PaymentFailed => "Nothing was charged; you can order again with another means of payment.",
        Notice::Cancelled => "What was paid comes back to you.",
        Notice::Expired => "Nothing was charged; you can order again.",
        Notice::Refunded => "Your bank will show the money in a few days.",
    };
    let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
    Notification {
        subject,
        email_text: format!("{subject}\n\n{what_follows}\n{reason}\nOrder {order_id}\n"),
        sms_text: format!("{subject} Order {order_id}"),
    }
}

/// The texts of a mail about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The subject, and all of the log's line.
    pub subject: &'static str,
    /// The text before the link.
    pub text: &'static str,
    /// The address at the end, which carries the token.
    pub link: Option<String>,
}

/// What is told about an account. `shop` is the address of the pages; the token is in the part of the link that browsers send
/// to nobody.
#[must_use]
pub fn render_mail(mail: AccountMail, shop: &str, token: Option<&str>) -> Mail {
    let shop = shop.trim_end_matches('/');
    let (subject, text, page) = match mail {
        AccountMail::ConfirmAddress => (
            "Please confirm your address.",
            "An account was made with this address. Confirm that it is yours within two days. If you made no account, \
             do nothing.",
            Some("confirm"),
        ),
        AccountMail::AddressTaken => (
            "You have an account already.",
            "Somebody tried to make an account with this address, which has one. If it was you, sign in, or choose another \
             password if you have forgotten it. Otherwise do nothing.",
            None,
        ),
        AccountMail::ResetPassword => (
            "Choose another password.",
            "Somebody asked for another password of your account. Choose one within 30 minutes. If it was not you, do \
             nothing: the password stays as it is.",
            Some("reset"),
        ),
        AccountMail::PasswordChanged => (
            "Your password was changed.",
            "The password of your account is another one now, and everybody else was signed out. If it was not you, choose \
             another password at once, by the page for forgotten ones.",
            None,
        ),
    };
    let link = page.zip(token).map(|(page, token)| format!("{shop}/#/{page}/{token}"));
    Mail { subject, text, link }
}

/// The line of the log that stands for sending to this user.
#[must_use]
pub fn line(user_id: Uuid, subject: &str) -> String {
    format!("Notification sent to user {user_id}: {subject}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Uuid = Uuid::from_u128(1);
    const USER: Uuid = Uuid::from_u128(2);

    #[test]
    fn each_notice_has_its_line() {
        for (notice, expected) in [
            (Notice::Confirmed, "Your order is confirmed!"),
            (Notice::Rejected, "Your order was rejected."),
            (Notice::PaymentFailed, "The payment for your order failed."),
            (Notice::Cancelled, "Your order is cancelled."),
            (Notice::Expired, "Your order could not be completed in time."),
            (Notice::Refunded, "The payment for your order was refunded."),
        ] {
            let notification = render(notice, ORDER, None);
            let expected = format!("Notification sent to user {USER}: {expected}");
            assert_eq!(line(USER, notification.subject), expected);
            assert!(notification.sms_text.chars().count() <= SMS_CHARS_MAX, "{}", notification.sms_text);
            assert!(notification.sms_text.contains(&ORDER.to_string()));
        }
    }

    #[test]
    fn a_mails_link_carries_its_token_where_browsers_send_it_to_nobody() {
        for (mail, path) in [
            (AccountMail::ConfirmAddress, Some("/#/confirm/to.ke-n")),
            (AccountMail::AddressTaken, None),
            (AccountMail::ResetPassword, Some("/#/reset/to.ke-n")),
            (AccountMail::PasswordChanged, None),
        ] {
            for shop in ["https://shop.example", "https://shop.example/"] {
                let mail = render_mail(mail, shop, Some("to.ke-n"));
                assert_eq!(mail.link, path.map(|path| format!("https://shop.example{path}")));
                assert!(!mail.subject.contains("to.ke-n") && !mail.text.contains("to.ke-n"));
            }
        }
        assert_eq!(render_mail(AccountMail::ResetPassword, "https://shop.example", None).link, None);
    }

    #[test]
    fn the_reason_is_in_the_email_alone() {
        let reason = "LAMP is out of stock ".repeat(100);
        let Notification { email_text, sms_text, .. } = render(Notice::Rejected, ORDER, Some(&reason));
        let expected = format!(
            "Your order was rejected.\n\nWe could not deliver it, and nothing was charged.\nReason: {reason}\n\
             \nOrder {ORDER}\n"
        );
        assert_eq!(email_text, expected);
        assert!(sms_text.len() <= SMS_CHARS_MAX, "{sms_text}");
    }
}
