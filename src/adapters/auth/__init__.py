"""Passwords by passlib's ``CryptContext``, access tokens by PyJWT."""
