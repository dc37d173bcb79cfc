"""The load: real Locust users and an open-loop timetable, in processes of their own."""
