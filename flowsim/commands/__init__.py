"""What the commands of ``flowsim`` do, and what they share."""
