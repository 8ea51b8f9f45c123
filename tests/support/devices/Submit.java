import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.util.Properties;

/**
 * Submits a message through Jakarta Mail, as the programs of many devices do.
 * Arguments: PORT MECHANISM USER PASSWORD SENDER RECIPIENT PROTOCOL, where PROTOCOL is of TLS, behind STARTTLS.
 */
public class Submit {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("mail.smtp.auth", "true");
        properties.put("mail.smtp.auth.mechanisms", arguments[1]);
        properties.put("mail.smtp.starttls.required", "true");
        properties.put("mail.smtp.starttls.enable", "true");
        properties.put("mail.smtp.ssl.protocols", arguments[6]);
        properties.put("mail.smtp.ssl.trust", "*");
        properties.put("mail.smtp.ssl.checkserveridentity", "false");
        Session session = Session.getInstance(properties);
        MimeMessage message = new MimeMessage(session);
        message.setFrom(new InternetAddress(arguments[4]));
        message.setSubject("scan " + arguments[1]);
        message.setText(".\r\n..\r\nhello");
        InternetAddress[] recipients = {new InternetAddress(arguments[5])};
        Transport transport = session.getTransport("smtp");
        transport.connect("127.0.0.1", Integer.parseInt(arguments[0]), arguments[2], arguments[3]);
        message.saveChanges();
        transport.sendMessage(message, recipients);
        transport.close();
    }
}
