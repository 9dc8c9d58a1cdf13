#include "daemon/agent/room.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY		 65534
#define CAPABILITIES_MAX 64
#define CHOICES		 3

struct identity {
	uid_t uid;
	gid_t gid;
};

/* Would this identity get the configuration? Tried for real, and taken back. */
static bool can_read(const struct identity *identity, const char *kubeconfig)
{
	struct base_error error = { 0 };
	struct k8s_config config = { 0 };
	bool ok = setgroups(0, NULL) == 0 && setegid(identity->gid) == 0 &&
		  seteuid(identity->uid) == 0 && k8s_config_load(&config, kubeconfig, NULL, &error) >= 0;

	k8s_config_clear(&config);
	return seteuid(0) == 0 && setegid(0) == 0 && ok;
}

static bool become(const struct identity *identity)
{
	return setgroups(0, NULL) == 0 && setresgid(identity->gid, identity->gid, identity->gid) == 0 &&
	       setresuid(identity->uid, identity->uid, identity->uid) == 0;
}

/* So that they do not come back with a program that is run; needs one of them itself. */
static void forget_capabilities(void)
{
	for (int i = 0; i < CAPABILITIES_MAX; i++)
		prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
}

/* Also of root, who keeps them over a change of identity to root. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	syscall(SYS_capset, &header, none);
}

/* Everything that can be read by root alone, before we are somebody else. */
static int hold(const char *kubeconfig, struct k8s_config *held)
{
	struct base_error error = { 0 };
	int r = k8s_config_load(held, kubeconfig, NULL, &error);

	if (r >= 0)
		r = k8s_config_hold(held, &error);
	if (r < 0) {
		k8s_config_clear(held);
		log_line(LOG_ERR, BASE_REASON_INVALID_CONFIGURATION, LOG_NO_FIELDS,
			 "cannot use the credentials: %s; they are tried again",
			 error.message[0] ? error.message : strerror(-r));
	}
	return r;
}

/*
 * Tokens are rotated: they are opened by path again and again, so whoever we become should be able
 * to read what will stand there. In a pod that is often a file of a group (fsGroup) or of the
 * container's user. Files of root alone are read once, here; when they do not work any more, the
 * agent ends, and the one that the engine starts then reads them anew.
 */
int agent_drop_privileges(const char *kubeconfig, struct k8s_config *held)
{
	struct base_error error = { 0 };
	struct k8s_config config = { 0 };
	struct stat status = { .st_uid = NOBODY, .st_gid = NOBODY };
	struct identity choices[CHOICES];
	size_t i = 0;
	int r = 0;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	forget_capabilities();
	if (getuid() == 0) {
		if (k8s_config_load(&config, kubeconfig, NULL, &error) >= 0)
			stat(config.token_file ? config.token_file
			     : kubeconfig      ? kubeconfig
					       : "/",
			     &status);
		k8s_config_clear(&config);
		choices[0] = (struct identity){ NOBODY, NOBODY };
		choices[1] = (struct identity){ NOBODY, status.st_gid };
		choices[2] = (struct identity){ status.st_uid, status.st_gid };
		while (i < CHOICES && (choices[i].uid == 0 || !can_read(&choices[i], kubeconfig)))
			i++;
		if (i == CHOICES) {
			i = 0;
			r = 1;
			if (hold(kubeconfig, held) >= 0)
				log_line(LOG_INFO, BASE_REASON_NONE, LOG_NO_FIELDS,
					 "only root can read the credentials: the agent has read "
					 "them and is nobody now; when they are refused, or with "
					 "SIGHUP, it starts again and reads them anew");
		}
		if (!become(&choices[i]))
			log_line(LOG_WARNING, BASE_REASON_UNSUPPORTED_FEATURE, LOG_NO_FIELDS,
				 "the agent stays root, without capabilities: it cannot become "
				 "user %u (%s); the container needs SETUID and SETGID",
				 (unsigned)choices[i].uid, strerror(errno));
	}
	drop_capabilities();
	/* A change of identity clears it; an agent without its engine has nothing to say. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return r;
}
